const lines = (...all: string[]): string => all.join("\n");

/** Well-formed documents: together they have all that GitHub's Markdown has. */
export const DOCUMENTS: Readonly<Record<string, string>> = {
  paragraphs: lines("One paragraph of", "two lines.", "", "Another one.", "", "", "", "And a third, after more space.", ""),
  "ATX headings": lines(
    "# One", "", "Text.", "## Two ##", "### Three", "#### Four #", "##### Five", "###### Six", "", "#no heading", "",
    "####### nor this",
  ),
  "thematic breaks": lines("Above", "", "---", "", "between", "", "* * *", "", "and", "***", "below", "", "_____", "", "end"),
  emphasis: "Some *emphasis*, _another_, **strong**, __stronger__, ***both***, and ~~struck~~ words.",
  "nested emphasis":
    "A **strong word with *emphasis* inside** and *emphasis with **strong** inside* and ~~**both** struck~~ here.",
  "emphasis over lines": lines("A **strong phrase that", "goes on** here and *another", "one* there."),
  "emphasis in words": "An un**believ**able word, snake_case_name and a __init__ call, 这是**重点**内容。",
  "no emphasis": "2 * 3 = 6, 2*3 is too, a_b_c stays, 5 ~ 6, ~5 to ~10, and * alone.",
  "inline code": "Call `f(x)` or ``a ` b`` or `` `x` `` and `**not strong**` and `a_b` now.",
  "code over lines": lines("Code `that goes", "on here` and ends."),
  "inline links":
    'See [the docs](https://example.com/a_b?c=d&e=f "A title"), ' +
    '[mail](mailto:a@example.com) and [*two* words](<https://example.com/x y>).',
  "links in parts": lines("A [link", "over lines](https://example.com) and", "[one](https://example.com/(in)parens) more."),
  "no links": "An array[0] and [brackets] and [x] done, f[i][j] as well, [a] (b) too.",
  "references above": lines(
    "[docs]: https://example.com/docs 'The docs'", "[Two Words]: <https://example.com/two>", "",
    "See [docs], [the text][docs], [two   words][] and [none].", "", "Again [docs].",
  ),
  "references below": lines(
    "See [docs] and [the text][docs].", "", "- in a list [docs]", "", "[docs]: https://example.com/docs", "",
    "Later [docs].",
  ),
  "references in a quote": lines("> [inner]: https://example.com/inner", "", "See [inner]."),
  autolinks:
    "Bare https://example.com/a_b.html, www.example.com. And <https://example.com/x>" +
    " (https://example.com/y) <a@example.com> end.",
  "bare mail": "Write to someone@example.com today.",
  images:
    "Here ![a cat](https://example.com/cat.png) and ![](https://example.com/no.png)" +
    " and [![badge](https://example.com/b.svg)](https://example.com) too.",
  escapes: "Not \\*emphasis\\*, not \\`code\\`, not \\[a link\\](x), a backslash \\\\ and \\a letter.",
  entities: "Fish &amp; chips &copy; 2024, &#35; &#x22; &notanentity; AT&T & co & x.",
  "hard breaks": lines("One line  ", "two lines\\", "three lines", "and on.", "", "End."),
  "bullet list": lines("- one", "- two", "- three", "", "* star", "* star two", "", "+ plus"),
  "ordered list": lines("1. one", "2. two", "3. three", "", "Then", "", "7) seven", "8) eight"),
  "nested lists": lines(
    "- one", "  - inner", "    - innermost", "  - inner two", "- two", "  1. ordered", "  2. more", "", "Done.",
  ),
  "loose list": lines("- one", "", "- two", "", "  second paragraph of two", "", "- three", "", "after"),
  "list becomes loose": lines("1. one", "2. two", "", "3. three is behind a blank line", "4. four"),
  "list with blocks": lines(
    "1. A step:", "", "   ```sh", "   npm install", "   ```", "", "2. A quote:", "", "   > quoted", "   > more", "",
    "3. Done",
  ),
  "task list": lines("- [ ] to do", "- [x] done *well*", "- [X] done too", "  - [ ] nested", "", "1. [ ] ordered"),
  quotes: lines(
    "> one", "> two", ">", "> new paragraph", "", "> > nested", "> > quote", "", "> lazy", "continuation", "", "end",
  ),
  "quote with blocks": lines(
    "> ## Title", "> ", "> - item", "> - item **two**", ">", "> ```python", "> def f():", ">", ">     return 1", "> ```",
    "", "after",
  ),
  table: lines(
    "| Name | Value |", "|------|------:|", "| a | 1 |", "| **b** | `2` |", "| c \\| d | [x](https://example.com) |", "",
    "after",
  ),
  "aligned table": lines(
    "Text above", "| L | C | R |", "| :-- | :-: | --: |", "| l | c | r |", "| only one |", "", "## Next",
  ),
  "table with breaks": lines("| A |", "| --- |", "| x<br>y<br/>z |", "| *em* ~~del~~ |"),
  "table without outer pipes": lines("Name | Value", "--- | ---", "a | 1", "b | 2"),
  "pipe but no table": lines("| not a table", "", "a || b is an or", "", "| nor", "| this"),
  "backtick fence": lines(
    "```python", "def f(x):", '    """Doc', "    string\"\"\"", "    return x + 1  # done", "", "print(f(1))", "```", "",
    "after",
  ),
  "tilde fence": lines("~~~", "plain & <text>", "```", "not closed by the other", "~~~", "after"),
  "nested fences": lines("````markdown", "Text", "```js", "const a = `x`;", "```", "````", "", "after"),
  "fence without an end": lines("Look:", "```ts", "interface A { x: number }", "// to be continued"),
  "fence in a list": lines("- item", "", "  ```json", '  {"a": [1, true, null]}', "  ```", "- next"),
  "fence with attributes": lines("```js {1,3} title=x", "let a = 1;", "", "", "a *= 2;", "```"),
  "empty fence": lines("```", "```", "", "and", "", "```js", "", "```"),
  "indented code": lines("Text", "", "    indented code", "", "      more *code*", "", "Text again"),
  "setext headings": lines("Title", "=====", "", "Sub *title*", "---", "", "Text"),
  "HTML blocks": lines(
    '<div class="a">', "*not emphasis*", "</div>", "", "<details><summary>Sum</summary>", "", "Inside **strong**", "",
    "</details>", "", "<!-- a comment", "over lines -->", "", "end",
  ),
  "inline HTML": 'A <b>bold</b> <span title="*x*">word</span>, a <br> break, x < y, a <3 b, <!-- note --> end.',
  footnotes: lines(
    "A claim[^1] and another[^note].", "", "[^1]: The first note.", "[^note]: The second", "    goes on.", "",
    "After the notes.",
  ),
  emoji: "Smile 😀 family 👨‍👩‍👧‍👦 flag 🇩🇪 and **bold 🚀** end ✅",
  CRLF: "# Title\r\n\r\nOne\r\ntwo\r\n\r\n- a\r\n- b\r\n\r\n```js\r\nlet a;\r\n```\r\n\r\n| a |\r\n|---|\r\n| b |\r\n",
  "other scripts": lines(
    "# 标题", "", "中文**加粗**和`代码`。", "", "- العربية *مائل*", "- עברית", "", "日本語[リンク](https://example.com/日本)です。",
  ),
  "tabs": lines("-\titem", "", "\tpara in item", "", "1.\tone", "", "\tcode?", "", "end"),
  "deep": lines("1. > - **a *b* c**", "   >   - `d`", "   >", "   > e", "", "f"),
  "an answer": lines(
    "Sure! Here's how to **stream** a reply:", "", "## 1. Install", "", "```bash",
    "pip install sluicegate # quick", "export KEY=\"$HOME/x\"", "```", "",
    "### 2. Use it", "", "1. Open the `stream`:", "   - *fast*", "   - **safe**", "2. Read it", "",
    "| Step | Cost |", "|:-----|-----:|", "| one | $1 |", "| two | $2 |", "",
    "> **Note:** it's [documented](https://example.com/docs).", "", "```rust",
    "fn main() {", "    let x: u32 = 1; /* a", "    comment */", "}", "```", "", "That's all — good luck! 🎉", "",
  ),
};

/** What any Markdown, well-formed or not, is made of. */
export const SOUP: readonly string[] = [
  "a", "b c", " ", "  ", "    ", "\n", "\n", "\n\n", "\r\n", "\t", "- ", "* ", "1. ", "2) ", "> ", "# ", "## ", "---", "===",
  "```", "```js\n", "~~~", "~~~~\n", "`", "``", "*", "**", "_", "__", "~~", "[", "]", "(u)", "](https://x.y)", "[a]: /u\n",
  "[a]", "![", "<", ">", "<div>", "<!--", "-->", "</div>\n", "<b>", "|", "| a | b |\n", "|---|---|\n", "a | b\n", "&amp;",
  "&", "\\", "https://x.y", "a@b.cd", "[^1]", "[^1]: n\n", "😀", "\0", "[ ] ", "[x] ", "  \n", "\\\n", "!",
];
