"""What the demo model says to show how answers look: all of Markdown, and a long one."""

from typing import Final

from .script import Reply, Say, Think

_RATE: Final = 60.0  # words a second
_CHAPTERS: Final = 24

_THOUGHT: Final = (
    "Somebody wants to see what Markdown can do. I shall show one of each, and let half-open syntax pass by as it "
    "comes: that is where pages flash."
)
_TOUR: Final = """\
# What Markdown can do

Words can be **strong**, *emphasised*, ~~struck out~~, or `code`, and [links](https://commonmark.org "CommonMark") \
open in a tab of their own. 2 ** 3 and snake_case_names stay as they are.

## Lists

1. One thing after the other,
2. with things below:
   - a point,
   - and another with `code` in it;
3. and things to do:
   - [x] stream words
   - [ ] understand them

## Code

```python
async def relay(upstream, client):
    async with upstream, client:  # closed, whatever happens
        async for delta in upstream:
            await client.send(delta)
```

```json
{"run": {"id": "r1", "model": "demo"}, "tools": ["multiply"], "is_done": false}
```

## A table

| verb       | who asks         | what ends        |
|:-----------|:-----------------|-----------------:|
| disconnect | the connection   | the nursery      |
| stop       | whoever reads    | the run          |
| resume     | the page         | nothing at all   |

> A quotation, which holds
> > another one.

---

That is most of it.
"""
_CHAPTER: Final = """\
## Chapter {number}

The water came down the channel as it always had, a word at a time, and the keeper watched it pass the gate. *Nothing \
is held back*, said the keeper, **and nothing is lost**: what leaves the spring arrives at the mill, in order, once.

- The gate was open for {number} hours.
- Then somebody closed it, and upstream it was quiet at once.

"""


def tour() -> Reply:
    """Return an answer with one of everything, thought about first."""
    return [Think(_THOUGHT, rate=_RATE), Say(_TOUR, rate=_RATE)]


def long_answer() -> Reply:
    """Return an answer of some 2,000 words: half a minute."""
    chapters = "".join(_CHAPTER.format(number=number) for number in range(1, _CHAPTERS + 1))
    return [Say("# The keeper of the sluice gate\n\n" + chapters, rate=_RATE)]
