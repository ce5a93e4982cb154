"""Our judgement of every contested recording: where the oracles of the corpus disagree, who is right, and why.

`test_corpus.py` checks each claim by running the stream and makes specs/verdicts.md of the list.
"""

from enum import StrEnum
from typing import Final, NamedTuple


class Side(StrEnum):
    """Whom we side with."""

    EXPECTED = "expected"
    """Our reply equals `expected` in every field."""
    PARTLY = "partly"
    """Our reply differs from `expected` in exactly the named fields, and we do not say that `expected` is wrong."""
    OURS = "ours"
    """Our reply differs in exactly the named fields, and there `expected` is wrong."""


class Verdict(NamedTuple):
    """`fields` are those in which our reply differs from `expected`; empty where we side with it."""

    dialect: str
    name: str
    side: Side
    reason: str
    fields: frozenset[str] = frozenset()


_REFUSAL: Final = (
    "The refusal came in `delta.refusal`, which one oracle drops. Refusal words are kept apart from text; the run ends "
    "with CONTENT_FILTER, the provider's own word stays `stop`."
)
_RESPONSES_REFUSAL: Final = (
    "The refusal came in `response.refusal.*`, which one oracle drops. It is kept apart from text; the run ends with "
    "CONTENT_FILTER though the status is `completed`."
)
_GROQ_USAGE: Final = "Usage comes only in `x_groq.usage`, where the SDK's accumulator does not look."
_MISTRAL_PARTS: Final = (
    "`content` comes as a list of parts. `thinking` parts are reasoning and `text` parts are text, as the provider "
    "documents them; the SDK's accumulator expects text only."
)
_TOOL_USE_FAILED: Final = (
    "An `error` event in the middle (tool_use_failed). What was said until then is kept, no tool runs and the run ends "
    "with UPSTREAM_ERROR; the oracles give up the whole reply."
)
_EMPTY_OUTPUT: Final = (
    "`response.completed` has an empty `output`: everything came in deltas and `*.done` events. What was said counts."
)
_ROTATING_IDS: Final = (
    "The ids of one item change from event to event, so accumulators that go by id fail. `output_index` names the item."
)
_PROVIDER_ITEM: Final = "The item is the provider's own tool. It is kept as it came and is no call for the client."
_COMPACTION: Final = (
    "The summary in a `compaction` block is the provider's part of the history and no text of the answer."
)

_LISTED: Final = (
    # dialect, names, side, reason, fields
    (
        "openai_chat",
        (
            "0xplaygrounds-rig__openai_refusal_matrix_chat_streaming_agent_surfaces_refusal",
            "0xplaygrounds-rig__openrouter_refusal_matrix_streaming_agent_surfaces_refusal",
            "0xplaygrounds-rig__openrouter_refusal_matrix_streaming_raw_model_surfaces_refusal",
            "0xplaygrounds-rig__openrouter_refusal_matrix_streaming_terminal_carries_usage_and_reason",
            "0xplaygrounds-rig__openrouter_refusal_matrix_transports_agree_on_the_refusal_text",
            "openai-openai-python__inline-snapshot_external_173417d553406f034f643e5db3f8d591fb691ebac56f5ae39a22cc7d455c5353",
            "openai-openai-python__inline-snapshot_external_569c877e69429d4cbc1577d2cd6dd33878095c68badc6b6654a69769b391a1c1",
        ),
        Side.EXPECTED,
        _REFUSAL,
        (),
    ),
    (
        "openai_chat",
        (
            "arize-ai-openinference__llama_index_test_token_counts_TestTokenCounts.test_groq",
            "langchain-groq__test_web_search",
            "pydantic-pydantic-ai__test_groq_test_groq_model_thinking_part_iter",
            "traceloop-openllmetry__opentelemetry-instrumentation-groq_test_chat_tracing_test_chat_streaming_legacy",
        ),
        Side.EXPECTED,
        _GROQ_USAGE,
        (),
    ),
    (
        "openai_chat",
        (
            "crmne-ruby-llm__chat_mistral_hybrid_reasoning_streams_thinking_separately_from_content",
            "datadog-dd-trace-py__mistral_mistral_v1_chat_completions_post_ccfa08da",
            "pydantic-pydantic-ai__test_mistral_test_mistral_model_thinking_part_iter",
            "vercel-ai__mistral_mistral-reasoning",
        ),
        Side.EXPECTED,
        _MISTRAL_PARTS,
        (),
    ),
    (
        "openai_chat",
        ("vercel-ai__mistral_mistral-tool-call",),
        Side.EXPECTED,
        "The call has no `index`, on which the SDK's accumulator fails; its id names it (case 16).",
        (),
    ),
    (
        "openai_chat",
        (
            "pydantic-pydantic-ai__test_groq_test_tool_use_failed_error_streaming",
            "pydantic-pydantic-ai__test_groq_test_tool_use_failed_error_streaming_with_text",
        ),
        Side.EXPECTED,
        _TOOL_USE_FAILED,
        (),
    ),
    (
        "openai_chat",
        ("pydantic-pydantic-ai__test_openrouter_test_openrouter_web_search_annotations_stream",),
        Side.EXPECTED,
        "Citations come as `annotations` in deltas, on which the SDK's accumulator fails. They change no text.",
        (),
    ),
    (
        "openai_chat",
        ("pydantic-pydantic-ai__test_snowflake_test_snowflake_model_streaming",),
        Side.EXPECTED,
        "No finish reason at all, but `[DONE]`, and only text: the run ends with an inferred `stop`, the raw word "
        "stays absent (case 36).",
        (),
    ),
    (
        "openai_chat",
        ("simonw-llm__test_tools_streaming_test_tools_streaming_variant_b",),
        Side.EXPECTED,
        "A call, then `[DONE]` without a finish reason. The call is listed but never runs: nobody said that it is "
        "complete, so the run ends with UPSTREAM_ERROR, truncated (case 36).",
        (),
    ),
    (
        "openai_chat",
        (
            "traceloop-openllmetry__instrumentation-writer_test_chat_test_writer_async_streaming_chat_multiple_tool_call_requests_legacy",
        ),
        Side.EXPECTED,
        "Calls begin with null arguments, on which the SDK's accumulator fails; they are no arguments yet (case 19).",
        (),
    ),
    (
        "openai_chat",
        ("vercel-ai__openai-compatible_chat_anthropic-fallback-tool-call",),
        Side.EXPECTED,
        "The only call has index 1, on which the SDK's accumulator fails; an index is a name, no position (case 11).",
        (),
    ),
    (
        "openai_chat",
        ("vercel-ai__cerebras_cererebras-structured-output-tools.1",),
        Side.PARTLY,
        "Two replies recorded as one stream: a second call follows the first finish reason. A call after the finish "
        "reason is ignored (case 32), or a server that repeats itself would make tools run for ever; the words count.",
        ("tool_calls",),
    ),
    (
        "openai_responses",
        (
            "0xplaygrounds-rig__chatgpt_codex_sessions_long_history_replay_nonstreaming",
            "0xplaygrounds-rig__chatgpt_codex_sessions_parallel_tool_calls_single_turn_nonstreaming",
            "0xplaygrounds-rig__chatgpt_codex_sessions_usage_accumulates_across_streaming_multi_turn",
            "0xplaygrounds-rig__chatgpt_codex_tool_args_unicode_arguments_streaming",
            "0xplaygrounds-rig__chatgpt_codex_tool_choice_none_suppresses_tool_calls",
        ),
        Side.EXPECTED,
        _EMPTY_OUTPUT,
        (),
    ),
    (
        "openai_responses",
        ("agentgateway-agentgateway__response_responses_stream",),
        Side.EXPECTED,
        "All item ids are empty and `response.completed` has an empty `output`: `output_index` names the items, and "
        "what was said counts.",
        (),
    ),
    (
        "openai_responses",
        (
            "0xplaygrounds-rig__copilot_reasoning_roundtrip_streaming.1",
            "vercel-ai__openai_responses_github-copilot-id-rotation.1",
        ),
        Side.EXPECTED,
        _ROTATING_IDS,
        (),
    ),
    (
        "openai_responses",
        ("0xplaygrounds-rig__openai_refusal_matrix_responses_agent_streaming_refusal_surfaces",),
        Side.EXPECTED,
        _RESPONSES_REFUSAL,
        (),
    ),
    (
        "openai_responses",
        ("langchain-openai__test_apply_patch", "vercel-ai__openai_responses_openai-apply-patch-tool-delete.1"),
        Side.EXPECTED,
        _PROVIDER_ITEM,
        (),
    ),
    (
        "openai_responses",
        ("vercel-ai__openai_responses_openai-shell-skills.1",),
        Side.EXPECTED,
        _PROVIDER_ITEM,
        (),
    ),
    (
        "openai_responses",
        ("vercel-ai__openai_responses_openai-shell-container.1",),
        Side.EXPECTED,
        _PROVIDER_ITEM
        + " The terminal response tells the text in another way than the deltas: the deltas win, a client "
        "has seen them.",
        (),
    ),
    (
        "openai_responses",
        ("vercel-ai__xai_responses_xai-web-search-tool.1",),
        Side.EXPECTED,
        "One oracle refuses the items of the provider's web search. They are no calls for the client; text and usage "
        "are plain.",
        (),
    ),
    (
        "openai_responses",
        ("vercel-ai__openai_responses_openai-error.1",),
        Side.EXPECTED,
        "An `error` event, then `response.failed`: the run ends with RATE_LIMITED, once; the oracles raise.",
        (),
    ),
    (
        "openai_responses",
        ("vercel-ai__openai_responses_openai-phase.1",),
        Side.OURS,
        "Cut by hand: the deltas are the beginning of what `response.output_text.done` says in full. A done text that "
        "goes on where the deltas stopped completes them; `expected` has the deltas only.",
        ("text",),
    ),
    (
        "openai_responses",
        ("openai-openai-python__api_reference_openapi.transformed.3",),
        Side.OURS,
        "An example of the documentation, cut by hand: `...` stands for deltas that are left out. The done text goes "
        "on where they stopped and completes them; `expected` has the deltas only.",
        ("text",),
    ),
    (
        "anthropic",
        ("0xplaygrounds-rig__anthropic_streaming_gateway_message_delta_metadata",),
        Side.EXPECTED,
        "A gateway adds metadata to `message_delta` and a `[DONE]` after `message_stop`, on which the SDK fails. "
        "Unknown fields are skipped, and so is all that follows the end.",
        (),
    ),
    (
        "anthropic",
        ("langchain-anthropic__test_citations",),
        Side.EXPECTED,
        "Citations, one of whose kinds one oracle refuses. They are kept as they came and change no text.",
        (),
    ),
    (
        "anthropic",
        (
            "pydantic-pydantic-ai__test_anthropic_test_anthropic_compaction_usage_with_cache_streaming",
            "vercel-ai__anthropic_anthropic-compaction.1",
        ),
        Side.EXPECTED,
        _COMPACTION,
        (),
    ),
)

VERDICTS: Final = tuple(
    Verdict(dialect, name, side, reason, frozenset(fields))
    for dialect, names, side, reason, fields in _LISTED
    for name in names
)


def page() -> str:
    """specs/verdicts.md."""
    lines = [
        "# Verdicts on contested recordings",
        "",
        "A recording is contested where the oracles that computed its `expected` (the official SDK's accumulator and",
        "two others) disagree. Each such recording has a verdict here, generated from `tests/path/verdicts.py`.",
        "`tests/path/test_corpus.py` runs every recording and holds it to its line. *expected*: our reply equals",
        "`expected` in every field. *ours* and *partly*: it differs in exactly the fields named; with *ours* we say",
        "that `expected` is wrong there.",
        "",
        "| recording | side | differs in | why |",
        "|---|---|---|---|",
    ]
    for verdict in VERDICTS:
        fields = ", ".join(sorted(verdict.fields))
        lines.append(f"| `{verdict.dialect}/{verdict.name}` | {verdict.side} | {fields} | {verdict.reason} |")
    return "\n".join(lines) + "\n"
