"""The short way for plain text deltas: whatever is fed, in whatever reads, it says what the general way says."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.machine.deltas import Delta
from sluicegate.wire.upstream.anthropic_messages import AnthropicMessagesDecoder
from sluicegate.wire.upstream.base import Decoder
from sluicegate.wire.upstream.openai_chat import OpenAIChatDecoder
from sluicegate.wire.upstream.plain_text import MAX_READ, TRIES, PlainText

DECODERS: dict[str, Callable[[], Decoder]] = {"openai_chat": OpenAIChatDecoder, "anthropic": AnthropicMessagesDecoder}
WORDS = st.text(max_size=6) | st.sampled_from(
    ["zeta", "id", "m", "{", '"', "\\", "\n", "é", "😀", "index", "text", "0"]
)


def chat(choice: Any, **more: Any) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode({"id": "m", "model": "m", "choices": [choice], **more})


def chat_words(words: str, **more: Any) -> bytes:
    return chat({"index": 0, "delta": {"content": words}, "finish_reason": None}, **more)


def message(kind: str, **more: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, **more}))


def message_words(words: str, index: int = 0) -> bytes:
    return message("content_block_delta", index=index, delta={"type": "text_delta", "text": words})


CHAT = st.one_of(
    WORDS.map(chat_words),
    WORDS.map(chat_words),
    WORDS.map(chat_words),
    WORDS.map(lambda words: chat_words(words, obfuscation=words)),
    WORDS.map(lambda words: chat({"index": 0, "delta": {"content": words, "reasoning_content": "why"}})),
    WORDS.map(lambda words: chat({"index": 1, "delta": {"content": words}})),
    WORDS.map(lambda words: chat_words(words, usage={"prompt_tokens": 1, "completion_tokens": 2})),
    st.just(chat({"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]}})),
    st.just(chat({"index": 0, "delta": {}, "finish_reason": "stop"})),
    WORDS.map(lambda words: chat_words(words).replace(b"\n", b"\r\n")),
    WORDS.map(lambda words: b"event: error\n" + chat_words(words)),
    WORDS.map(lambda words: chat_words(words).replace(b'"index"', b'"\xff"')),
    st.sampled_from([b": ping\n\n", b"\n", b"\r\n\r\n", b"data: [DONE]\n\n", b"data: {\n\n", b"event: x\n", b"data: "]),
)
MESSAGES = st.one_of(
    WORDS.map(message_words),
    WORDS.map(message_words),
    WORDS.map(message_words),
    st.builds(message_words, WORDS, st.integers(0, 2)),
    st.integers(0, 2).map(lambda at: message("content_block_start", index=at, content_block={"type": "text"})),
    st.integers(0, 2).map(
        lambda at: message("content_block_start", index=at, content_block={"type": "tool_use", "id": "a", "name": "f"})
    ),
    st.integers(0, 2).map(lambda at: message("content_block_stop", index=at)),
    WORDS.map(
        lambda words: message("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": words})
    ),
    WORDS.map(lambda words: message_words(words).partition(b"\n")[2]),
    st.just(message("ping")),
    st.just(message("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2})),
    st.sampled_from([message("message_stop"), b"\n", b": x\n\n", b"event: error\n", b"data: {}\n\n"]),
)
BEGINNINGS = {
    "openai_chat": chat({"index": 0, "delta": {"role": "assistant", "content": ""}}),
    "anthropic": message("message_start", message={"id": "m", "model": "m"})
    + message("content_block_start", index=0, content_block={"type": "text", "text": ""}),
}


def both(dialect: str, reads: list[bytes]) -> tuple[list[list[Delta]], list[list[Delta]]]:
    """What each read comes to, by the short way where that is open, and by the general way alone."""
    short, general = DECODERS[dialect](), DECODERS[dialect]()
    plain: Any = general
    plain._plain._tries = 0
    results = [[decoder.feed(read) for read in reads] + [decoder.eof()] for decoder in (short, general)]
    return results[0], results[1]


@pytest.mark.parametrize(("dialect", "events"), [("openai_chat", CHAT), ("anthropic", MESSAGES)])
def test_the_short_way_says_what_the_general_way_says(dialect: str, events: st.SearchStrategy[bytes]) -> None:
    @given(st.lists(events, max_size=12), st.data())
    @settings(deadline=None, max_examples=400)
    def check(sent: list[bytes], data: st.DataObject) -> None:
        reads: list[bytes] = [BEGINNINGS[dialect]]
        for event in sent:
            cuts = sorted(data.draw(st.lists(st.integers(0, len(event)), max_size=2)))
            pieces = [event[at:end] for at, end in zip([0, *cuts], [*cuts, len(event)], strict=True) if at < end]
            if data.draw(st.booleans()) and len(reads) > 1:
                reads[-1] += pieces.pop(0)
            reads += pieces
        short, general = both(dialect, reads)
        assert short == general

    check()


@pytest.mark.parametrize("dialect", DECODERS)
def test_plain_reads_go_the_short_way(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All behind the first, and an escape that names a code point costs only its own read."""
    taken: list[bool] = []
    match = PlainText.match

    def watching(self: PlainText, data: bytes) -> Any:
        delta = match(self, data)
        taken.append(delta is not None)
        return delta

    monkeypatch.setattr(PlainText, "match", watching)
    words = chat_words if dialect == "openai_chat" else message_words
    decoder = DECODERS[dialect]()
    decoder.feed(BEGINNINGS[dialect])
    taken.clear()
    for text in ("one", "two", "\x01", "three\n", "é😀\\", "x" * MAX_READ, "x" * (MAX_READ + 1), "", '"five"'):
        decoder.feed(words(text))
    assert taken == [
        False,
        True,
        False,
        True,
        True,
        True,
        False,
        False,
        dialect == "anthropic",
    ]  # no words are no delta there


def test_what_is_new_in_every_event_is_looked_for_only_so_often() -> None:
    decoder: Any = OpenAIChatDecoder()
    decoder.feed(BEGINNINGS["openai_chat"])
    for number in range(2 * TRIES):
        assert decoder._plain._tries == max(TRIES - number, 0)
        decoder.feed(chat_words("same words", obfuscation=str(number)))


def test_what_only_looks_like_the_words_is_not_taken_for_them() -> None:
    """The words stand in the text as escapes, and once more in plain, as a key."""
    event = chat_words("id").replace(b'"content":"id"', b'"content":"\\u0069d"')
    assert event.count(b'"id"') == 1
    decoder: Any = OpenAIChatDecoder()
    for read in (BEGINNINGS["openai_chat"], event, event):
        decoder.feed(read)
    assert decoder._plain._head == b""
    assert decoder._plain._tries == TRIES - 2


@pytest.mark.parametrize("dialect", DECODERS)
def test_words_that_are_not_utf_8_go_the_general_way(dialect: str) -> None:
    words = chat_words if dialect == "openai_chat" else message_words
    reads = [BEGINNINGS[dialect], words("one"), words("two").replace(b"two", b"t\xffo"), words("three")]
    short, general = both(dialect, reads)
    assert short == general
