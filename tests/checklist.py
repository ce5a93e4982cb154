"""What production needs of a service that streams, item by item: `specs/checklist.md` is made from this."""

from typing import Final, NamedTuple


class Item(NamedTuple):
    """`how` says what does it, `tests` where it is seen, each as `path::name`."""

    part: str
    what: str
    how: str
    tests: tuple[str, ...]


SERVER: Final = "Server"
PAGE: Final = "Frontend"
AROUND: Final = "Infrastructure"

ITEMS: Final = (
    Item(
        SERVER,
        "Rate limiting per user and session",
        "`[limits]`: requests and tokens a minute, runs at once, for each key, model, end user and address",
        (
            "tests/service/test_limits.py::test_a_run_is_let_in_if_and_only_if_it_is_within_all_limits",
            "tests/service/test_limits.py::test_not_one_run_more_at_once_however_many_come_together",
        ),
    ),
    Item(
        SERVER,
        "Authentication before streaming",
        "API keys and JSON Web Tokens; without either the service serves its own machine only",
        (
            "tests/service/test_access.py::test_whatever_authorization_says_it_is_401",
            "tests/service/test_tokens.py::test_a_forgery_is_401",
            "tests/test_readme.py::test_nobody_is_let_in_from_the_network_by_accident",
        ),
    ),
    Item(
        SERVER,
        "Validation of what comes in",
        "sizes, counts, depth, types, media types and encodings; the answer names field, limit and cure",
        (
            "tests/service/test_validation.py::test_any_json_is_taken_or_refused",
            "tests/service/test_validation.py::test_any_json_over_http_is_2xx_or_4xx",
            "tests/service/test_openapi.py::test_what_is_answered_is_documented",
        ),
    ),
    Item(
        SERVER,
        "Longest reply, budget of tokens",
        "`max_output_tokens`, `reply_bytes`, `steps`, and budgets in tokens, dollars and seconds",
        (
            "tests/service/test_budgets.py::test_a_reply_ends_within_one_read_of_its_budget",
            "tests/service/test_budgets.py::test_the_provider_is_told_how_much_is_left",
            "tests/machine/test_units_limits.py::test_the_last_byte_that_fits_is_taken_and_the_next_one_is_not",
        ),
    ),
    Item(
        SERVER,
        "Timeout for stalled streams",
        "`first_delta_seconds`, `stall_seconds`, `step_seconds`, `run_seconds`",
        (
            "tests/service/test_time.py::test_a_provider_that_does_not_begin",
            "tests/service/test_time.py::test_a_provider_that_stops_in_the_middle",
        ),
    ),
    Item(
        SERVER,
        "Upstreams are closed when the client leaves",
        "the run and all its work are one nursery, cancelled in the tick that sees the client leave",
        (
            "tests/sockets/test_drops.py::test_a_client_that_leaves_takes_its_run_with_it",
            "tests/providers/test_leave.py::test_a_client_that_leaves_closes_its_upstream",
        ),
    ),
    Item(
        SERVER,
        "Usage is noted",
        "two entries for each run, before its request and at its end, that outlive the process; cost in dollars",
        (
            "tests/runtime/test_spool_crash.py::test_killed_in_runs",
            "tests/providers/test_prices.py::test_a_cost_is_what_the_table_says",
        ),
    ),
    Item(
        SERVER,
        "Errors are sent through the stream",
        "before the first byte a status, after it an event; exactly one terminal event ends each stream",
        (
            "tests/service/test_errors.py::test_before_the_first_byte_an_error_is_a_status",
            "tests/service/test_errors.py::test_after_the_first_byte_an_error_is_an_event",
        ),
    ),
    Item(
        PAGE,
        "The user can stop an answer",
        "`abort` of the client sends `DELETE /runs/{id}`; leaving the page for good does, too",
        (
            "tests/web/test_page.py::test_stop_closes_the_stream_at_the_provider",
            "tests/web/test_page.py::test_a_tab_that_is_closed_stops_its_answer",
            "tests/web/test_tabs.py::test_stop_from_the_tab_that_follows",
        ),
    ),
    Item(
        PAGE,
        "A state for the time before the first token",
        "`status`: queued, connecting, waiting; the page says so, also to who does not see",
        (
            "tests/web/test_behaviour.py::test_until_words_come_the_page_says_that_it_waits",
            "tests/web/test_tabs.py::test_tabs_beyond_the_connections_of_a_browser_say_that_they_wait",
        ),
    ),
    Item(
        PAGE,
        "Failures in mid-stream",
        "what has come stays; the error has words for each code, and another try; no last frame is never success",
        (
            "tests/web/test_page.py::test_an_error_in_mid_stream_is_said_and_another_try_is_offered",
            "tests/web/test_behaviour.py::test_a_question_that_was_refused_can_be_changed",
            "tests/web/test_sources.py::test_laws",
        ),
    ),
    Item(
        PAGE,
        "Dropped connections are taken up again",
        "`detach`, `Last-Event-ID`, backoff; where the rest cannot be had, that is said",
        (
            "tests/web/test_page.py::test_a_connection_that_is_cut_is_read_on",
            "tests/web/test_page.py::test_a_server_that_restarts_has_lost_the_answer_and_that_is_said",
        ),
    ),
    Item(
        PAGE,
        "Smooth rendering without needless renders",
        "one render a frame of the display at most; blocks that did not change stay; nothing shifts",
        (
            "tests/web/test_speed.py::test_a_fast_answer_renders_once_a_frame_at_most_and_holds_little",
            "tests/web/test_behaviour.py::test_nothing_shifts_from_the_first_word_to_the_end",
            "tests/web/test_behaviour.py::test_who_scrolls_up_is_not_dragged_down",
        ),
    ),
    Item(
        PAGE,
        "Screen readers hear that and what is answered",
        "the status in a live region of its own; the answer by sentences and blocks; the focus stays",
        (
            "tests/web/test_access.py::test_what_is_heard_are_sentences_and_the_status",
            "tests/web/test_access.py::test_the_live_regions_in_mid_stream",
            "tests/web/test_access.py::test_axe_finds_nothing",
            "tests/web/test_behaviour.py::test_the_focus_is_where_one_goes_on",
        ),
    ),
    Item(
        PAGE,
        "Phones: the app goes to the background and comes back",
        "reads on when the page is shown, thawed or online again; another tab reads meanwhile",
        (
            "tests/web/test_frozen.py::test_an_answer_that_ended_meanwhile_is_there",
            "tests/web/test_frozen.py::test_an_answer_that_goes_on_is_read_on",
            "tests/web/test_frozen.py::test_a_connection_that_was_lost_meanwhile_is_read_on",
            "tests/web/test_frozen.py::test_another_tab_read_on_and_the_one_that_was_frozen_follows",
        ),
    ),
    Item(
        AROUND,
        "The proxy holds nothing back",
        "`X-Accel-Buffering: no`, one write for each read, and `sluicegate deploy nginx`",
        ("tests/deploy/test_nginx.py::test_no_token_is_held_back_and_who_leaves_ends_the_run",),
    ),
    Item(
        AROUND,
        "The balancer waits longer than a stream may last",
        "heartbeats; timeouts of the printed nginx; `sluicegate check` warns of shorter ones",
        (
            "tests/deploy/test_printed.py::test_nginx_waits_longer_than_any_silence",
            "tests/deploy/test_nginx.py::test_a_stream_outlives_a_silence_as_long_as_it_has_heartbeats",
            "tests/settings/test_check.py::test_what_is_doubtful_is_told",
        ),
    ),
    Item(
        AROUND,
        "CORS where pages are of another origin",
        "`cors_origins`, exactly",
        ("tests/service/test_cors.py::test_only_named_origins_may_read_answers",),
    ),
    Item(
        AROUND,
        "Durations and error rates are watched",
        "`GET /metrics`, a dashboard and alerts that are printed, OpenTelemetry, one line of log for each run",
        (
            "tests/service/test_metrics.py::test_metrics_are_what_ledger_and_records_say",
            "tests/deploy/test_grafana.py::test_every_query_is_answered",
            "tests/deploy/test_rules.py::test_each_alert_is_raised_where_it_should_be",
            "tests/service/test_telemetry.py::test_a_run_is_told_as_it_went",
        ),
    ),
)

HEAD: Final = """# Checklist

Made from `tests/checklist.py` by `python -m tests.specs`; do not edit. What a service that streams needs in production,
what does it here, and the tests in which it is seen.
"""


def page() -> str:
    """Return the page."""
    lines = [HEAD]
    for part in (SERVER, PAGE, AROUND):
        lines += [f"## {part}", "", "| what | how | tests |", "|---|---|---|"]
        for item in ITEMS:
            if item.part == part:
                tests = ", ".join(f"`{test}`" for test in item.tests)
                lines.append(f"| {item.what} | {item.how} | {tests} |")
        lines.append("")
    return "\n".join(lines)
