import { c, cpp, csharp, java, kotlin } from "@codemirror/legacy-modes/mode/clike";
import { diff } from "@codemirror/legacy-modes/mode/diff";
import { dockerFile } from "@codemirror/legacy-modes/mode/dockerfile";
import { go } from "@codemirror/legacy-modes/mode/go";
import { javascript, json, typescript } from "@codemirror/legacy-modes/mode/javascript";
import { python } from "@codemirror/legacy-modes/mode/python";
import { rust } from "@codemirror/legacy-modes/mode/rust";
import { shell } from "@codemirror/legacy-modes/mode/shell";
import { toml } from "@codemirror/legacy-modes/mode/toml";
import { html, xml } from "@codemirror/legacy-modes/mode/xml";
import { yaml } from "@codemirror/legacy-modes/mode/yaml";
import type { StreamParser } from "@codemirror/streamparser";

import { css, sql } from "./smallLanguages.js";

export interface Language {
  /** For people. */
  readonly title: string;
  /** Absent where the code is shown without colours. */
  readonly parser?: StreamParser<unknown>;
}

const LANGUAGES: readonly (readonly [title: string, parser: StreamParser<unknown>, ...names: string[]])[] = [
  ["Bash", shell, "bash", "sh", "shell", "zsh", "console"],
  ["C", c, "c", "h"],
  ["C++", cpp, "cpp", "c++", "cc", "hpp"],
  ["C#", csharp, "csharp", "cs", "c#"],
  ["CSS", css, "css", "scss", "less"],
  ["Diff", diff, "diff", "patch"],
  ["Dockerfile", dockerFile, "dockerfile", "docker"],
  ["Go", go, "go", "golang"],
  ["HTML", html, "html", "vue", "svelte"],
  ["Java", java, "java"],
  ["JavaScript", javascript, "javascript", "js", "mjs", "jsx"],
  ["JSON", json, "json", "jsonc", "json5"],
  ["Kotlin", kotlin, "kotlin", "kt"],
  ["Python", python, "python", "py"],
  ["Rust", rust, "rust", "rs"],
  ["SQL", sql, "sql", "postgresql", "mysql", "sqlite"],
  ["TOML", toml, "toml"],
  ["TypeScript", typescript, "typescript", "ts", "tsx"],
  ["XML", xml, "xml", "svg"],
  ["YAML", yaml, "yaml", "yml"],
];

const BY_NAME = new Map(
  LANGUAGES.flatMap(([title, parser, ...names]) => names.map((name) => [name, { title, parser }])),
);

/** The language that a fence names; one that is not known is shown by its name, as plain text. */
export function languageOf(name: string): Language {
  return BY_NAME.get(name.toLowerCase()) ?? { title: name };
}
