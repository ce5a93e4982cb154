import { simpleMode } from "@codemirror/legacy-modes/mode/simple-mode";

/*
 * The library's own parsers for these two are lists of every word that any dialect knows, and weigh as much as the other
 * languages together.
 */

const KEYWORDS = `
  add all alter and as asc begin between by cascade case check column commit constraint create cross default delete desc
  distinct drop else end except exists explain foreign from full function grant group having if in index inner insert
  intersect into is join key left like limit not null offset on or order outer over partition primary references
  returning revoke right rollback select set table then transaction trigger true false union unique update using values
  view when where window with`;
const TYPES = `
  bigint blob boolean char date decimal double float int integer interval json jsonb numeric real serial smallint text
  time timestamp timestamptz uuid varchar`;

const anyOf = (words: string): RegExp => new RegExp(`(?:${words.trim().split(/\s+/).join("|")})\\b`, "i");

export const sql = simpleMode({
  start: [
    { regex: /--.*/, token: "comment" },
    { regex: /\/\*/, token: "comment", next: "comment" },
    { regex: /'(?:[^']|'')*'?/, token: "string" },
    { regex: /"[^"]*"?|`[^`]*`?/, token: "property" },
    { regex: /\d+(?:\.\d+)?/, token: "number" },
    { regex: anyOf(KEYWORDS), token: "keyword" },
    { regex: anyOf(TYPES), token: "type" },
    { regex: /[A-Za-z_]\w*(?=\s*\()/, token: "builtin" },
    { regex: /[A-Za-z_]\w*|\s+/, token: null },
  ],
  comment: [
    { regex: /.*?\*\//, token: "comment", next: "start" },
    { regex: /.+/, token: "comment" },
  ],
});

export const css = simpleMode({
  start: [
    { regex: /\/\*/, token: "comment", next: "comment" },
    { regex: /"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?/, token: "string" },
    { regex: /@[\w-]+/, token: "keyword" },
    { regex: /--[\w-]+|[\w-]+(?=\s*:\s)/, token: "property" },
    { regex: /#[\da-f]{3,8}\b|[+-]?(?:\d*\.)?\d+(?:%|[a-z]+)?/i, token: "number" },
    { regex: /[.#][A-Za-z_-][\w-]*|::?[a-z-]+/, token: "type" },
    { regex: /![a-z]+/, token: "keyword" },
    { regex: /[\w-]+(?=\()/, token: "builtin" },
    { regex: /[\w-]+|\s+/, token: null },
  ],
  comment: [
    { regex: /.*?\*\//, token: "comment", next: "start" },
    { regex: /.+/, token: "comment" },
  ],
});
