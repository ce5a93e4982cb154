"""The conversation: every call is answered, and what a conversation costs by the published estimator."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.machine.deltas import Usage
from sluicegate.machine.history import (
    INTERRUPTED,
    AssistantMessage,
    CallPart,
    ImagePart,
    Message,
    ProviderPart,
    ReasoningPart,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
    settled,
)
from sluicegate.machine.usage import IMAGE_TOKENS, add_usage, estimate_prompt_tokens, estimate_tokens

CALLS = st.lists(st.sampled_from("ABC"), unique=True, max_size=3)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.just(UserMessage((TextPart("go on"),))),
    st.just(SystemMessage("be brief")),
    CALLS.map(lambda ids: AssistantMessage((TextPart("so"), *(CallPart(call, "f", "{}") for call in ids)))),
    st.sampled_from("ABC").map(lambda call: ToolMessage(call, "f", "done")),
)
USAGES = st.builds(Usage, *(st.integers(0, 10**9) for _ in range(5)), st.booleans())


def unanswered(messages: tuple[Message, ...]) -> set[str]:
    asked = {part.call_id for m in messages if isinstance(m, AssistantMessage) for part in m.parts
             if isinstance(part, CallPart)}  # fmt: skip
    return asked - {m.call_id for m in messages if isinstance(m, ToolMessage)}


@given(st.lists(MESSAGES, max_size=6).map(tuple))
def test_case_62_every_call_is_answered_and_nothing_else_changes(messages: tuple[Message, ...]) -> None:
    out = settled(messages)
    assert unanswered(out) == set()
    added = [message for message in out if isinstance(message, ToolMessage) and message.content == INTERRUPTED]
    assert {message.call_id for message in added} == unanswered(messages)
    assert all(message.is_error for message in added)
    assert tuple(message for message in out if message not in added) == messages
    assert settled(out) == out


@given(st.integers(0, 10**6))
def test_a_token_is_four_bytes_rounded_up(size: int) -> None:
    assert 4 * estimate_tokens(size) - 4 < size <= 4 * estimate_tokens(size)


def test_what_each_part_of_a_conversation_costs() -> None:
    text = "é" * 50
    costs: list[tuple[Message, int]] = [
        (SystemMessage(text), 25),
        (ToolMessage("A", "ignored", text), 25),
        (UserMessage((TextPart(text), TextPart(text))), 50),
        (UserMessage((ImagePart("https://example.org/cat.png"),)), IMAGE_TOKENS),
        (AssistantMessage((ReasoningPart(text), RefusalPart(text))), 50),
        (AssistantMessage((CallPart("A", "name", '{"a":1}!'),)), 3),
        (AssistantMessage((ProviderPart("search", b"x" * 90, "y" * 10),)), 25),
        (AssistantMessage(()), 0),
    ]
    for message, tokens in costs:
        assert estimate_prompt_tokens([message]) == tokens, message
    assert estimate_prompt_tokens(message for message, _ in costs) == sum(tokens for _, tokens in costs)


@given(USAGES, USAGES, USAGES)
def test_usage_adds_up_field_by_field_in_any_order(a: Usage, b: Usage, c: Usage) -> None:
    assert add_usage(a, Usage()) == a
    assert add_usage(a, b) == add_usage(b, a)
    assert add_usage(add_usage(a, b), c) == add_usage(a, add_usage(b, c))
    total = add_usage(a, b)
    for name in Usage.__struct_fields__:
        one, other, both = (getattr(usage, name) for usage in (a, b, total))
        assert both == (one or other if name == "estimated" else one + other)


def test_history_survives_json() -> None:
    message = AssistantMessage((TextPart("a"), CallPart("A", "f", "{}"), ReasoningPart("b", "sig")))
    assert msgspec.json.decode(msgspec.json.encode(message), type=AssistantMessage) == message
