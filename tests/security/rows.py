"""The threats, each with what stands against it, what has to be seen, and the tests in which it is seen.

`specs/security.md` is made from this, and the tests take their counts from here: what the page says is what they
enforce.
"""

from typing import Final, NamedTuple

COUNTS: Final = {
    "authorizations": 10_000,
    "forgeries": 30,
    "targets": 40,
    "arguments": 5_000,
    "texts": 10_000,
    "splits": 1_000,
    "depth": 100_000,
    "body_mib": 16,
    "cpu_seconds": 3,
    "messages": 100_000,
    "codings": 8,
    "half_heads": 500,
    "shut_windows": 500,
    "rotations": 1_000,
    "guesses": 1_000,
    "origins": 8,
    "echoes": 400,
    "behaviours": 20,
    "scripts": 12,
    "malformed": 40,
    "log_faults": 40,
    "payloads": 60,
    "payload_words": 3_500,
    "payload_reads": 6_000,
}


class Row(NamedTuple):
    """`bar` names counts in braces; a test is `path::name`."""

    threat: str
    control: str
    bar: str
    tests: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The bar with its counts."""
        return self.bar.format(**{name: f"{count:,}" for name, count in COUNTS.items()})


ROWS: Final = (
    Row(
        "a key is guessed or read",
        "keys are kept as hashes and compared by `hmac.compare_digest`",
        "{authorizations} fuzzed values of Authorization: only 401, nothing else raised; nowhere `==` on a secret",
        (
            "tests/service/test_access.py::test_whatever_authorization_says_it_is_401",
            "tests/service/test_access.py::test_one_character_makes_another_key",
            "tests/service/test_access.py::test_no_secret_is_kept_and_the_file_is_its_owners",
            "tests/security/test_secrets.py::test_no_secret_is_compared_by_its_bytes",
            "tests/security/test_secrets.py::test_the_check_sees_a_comparison",
        ),
    ),
    Row(
        "a token is forged",
        "one algorithm for each issuer; keys come from its set alone",
        "{forgeries} forgeries (no algorithm, HMAC with the public key, `kid` a path, `jku`, expired, another audience "
        "or issuer ...): all 401",
        (
            "tests/service/test_tokens.py::test_a_forgery_is_401",
            "tests/service/test_tokens.py::test_there_are_enough_forgeries",
        ),
    ),
    Row(
        "the service is made to connect somewhere (SSRF)",
        "base URLs never come from a request; URLs of images are passed on, not fetched",
        "{targets} URLs in each place of a request that takes text: no connection at a listener, none from this "
        "process but to the provider",
        (
            "tests/security/test_ssrf.py::test_no_url_of_a_request_is_ever_connected_to",
            "tests/security/test_ssrf.py::test_the_canary_sees_a_connection",
        ),
    ),
    Row(
        "arguments that a model made up reach a tool",
        "strict schema, complete JSON only, caps on size and depth",
        "{arguments} generated documents: one that is not valid never reaches the tool; bombs are refused fast",
        (
            "tests/test_tools_arguments.py::test_5000_documents_reach_the_tool_if_and_only_if_they_are_valid",
            "tests/test_tools_arguments.py::test_the_oracle_knows_every_rule",
            "tests/test_tools_arguments.py::test_bombs_are_error_results_fast",
        ),
    ),
    Row(
        "text becomes an event of its own (SSE injection)",
        "data is JSON; `event` and `id` are of `[A-Za-z0-9._-]{{1,64}}`",
        "{texts} texts with CR, LF, NUL, U+2028, BOM through every event that holds text: an independent reader sees "
        "exactly one event, with an equal text",
        (
            "tests/security/test_sse_injection.py::test_whatever_a_text_holds_it_stays_one_event",
            "tests/security/test_sse_injection.py::test_names_and_ids_are_of_their_alphabet",
            "tests/security/test_sse_injection.py::test_hostile_texts_come_through_the_whole_service",
            "tests/test_sse.py::test_encoded_data_cannot_leave_its_event",
        ),
    ),
    Row(
        "halves of surrogate pairs, NaN",
        "refused at the edge; from a model, paired again or replaced",
        "every split of an escaped pair in every dialect, {splits} in all: the stream goes on and ends well",
        (
            "tests/security/test_surrogates.py::test_every_split_of_a_pair_is_read",
            "tests/security/test_surrogates.py::test_halves_alone_are_replaced",
            "tests/security/test_surrogates.py::test_halves_and_numbers_that_are_none_are_refused_at_the_edge",
        ),
    ),
    Row(
        "JSON bombs",
        "limits of size, depth and count; what is nested too deeply is a 400",
        "depth up to {depth}, {body_mib} MiB, {messages} messages: 400 or 413 within {cpu_seconds} s of CPU, memory "
        "bounded by the body's size, never 500",
        (
            "tests/security/test_bombs.py::test_a_bomb_is_refused_fast_and_in_bounded_memory",
            "tests/security/test_bombs.py::test_bombs_over_a_socket",
            "tests/service/test_validation.py::test_a_bad_body_is_answered_with_field_and_cure",
        ),
    ),
    Row(
        "compressed bodies",
        "no Content-Encoding in; a cap on what a provider's inflate to",
        "{codings} encodings: 415; an upstream is closed at the cap, replies and refusals alike, in bounded memory",
        (
            "tests/security/test_compressed.py::test_an_encoded_request_is_415",
            "tests/security/test_compressed.py::test_a_reply_is_cut_off_at_the_cap",
            "tests/security/test_compressed.py::test_a_refusal_is_read_to_its_cap",
            "tests/security/test_compressed.py::test_the_provider_sees_it_on_a_socket",
        ),
    ),
    Row(
        "slow heads, slow readers, floods of connections",
        "deadlines for heads and writes, caps on connections",
        "{half_heads} half heads and {shut_windows} shut windows: the p99 of a new client stays under twice what it is "
        "without, and all of them are gone a second after their deadline",
        (
            "tests/security/test_flood.py::test_new_clients_do_not_feel_those_that_hold_on",
            "tests/server/test_limits.py::test_a_client_that_takes_nothing_is_cut_off",
            "tests/server/test_limits.py::test_a_head_that_trickles_does_not_get_more_time",
            "tests/server/test_limits.py::test_connections_above_the_cap_are_closed_at_once",
            "tests/load/test_stalled.py::test_readers_that_stop_reading_are_bounded_cut_off_and_back",
        ),
    ),
    Row(
        "limits are evaded by X-Forwarded-For",
        "limits go by key; only proxies that are named are believed",
        "{rotations} rotated values: the same number of 429",
        (
            "tests/service/test_addresses.py::test_thousand_made_up_addresses_are_worth_none",
            "tests/service/test_addresses.py::test_the_client_is_who_asked_the_first_trusted_proxy",
        ),
    ),
    Row(
        "another one's run is guessed",
        "ids of 128 bits; the owner is looked at; 404",
        "{guesses} tries, right ids among them: no byte of the run, equal answers",
        (
            "tests/service/test_access.py::test_another_ones_run_cannot_be_guessed",
            "tests/service/test_resume.py::test_a_thousand_guesses_are_answered_alike",
        ),
    ),
    Row(
        "pages of others (CSRF, CORS)",
        "bearer tokens only, exact origins, only `application/json`",
        "{origins} origins: no header that lets them read; what a form can send is 415",
        (
            "tests/service/test_cors.py::test_only_named_origins_may_read_answers",
            "tests/security/test_cross_site.py::test_what_a_page_can_send_unasked_starts_nothing",
            "tests/security/test_cross_site.py::test_cookies_are_no_access",
        ),
    ),
    Row(
        "secrets and prompts in logs",
        "a line has names and numbers only; of exceptions the types and places; other packages from warnings on",
        "a canary key and a canary text through {log_faults} runs that go wrong in each dialect, on DEBUG: not in "
        "logs, metrics or answers; a canary text through every ending: not in traces",
        (
            "tests/security/test_leaks.py::test_no_fault_of_a_provider_or_a_tool_leaks",
            "tests/security/test_leaks.py::test_no_bug_of_ours_leaks",
            "tests/security/test_leaks.py::test_no_refusal_leaks",
            "tests/security/test_leaks.py::test_a_line_stays_one_line",
            "tests/security/test_leaks.py::test_other_packages_are_heard_from_warnings_on",
            "tests/service/test_telemetry.py::test_a_run_is_told_as_it_went",
            "tests/service/test_metrics.py::test_metrics_are_what_ledger_and_records_say",
        ),
    ),
    Row(
        "a provider's errors give something away",
        "errors are mapped to our words, never passed on",
        "{echoes} errors that hold a key, as status and within the stream, in every dialect: no byte of it reaches a "
        "client",
        (
            "tests/security/test_echoes.py::test_no_byte_of_a_providers_error_reaches_a_client",
            "tests/service/test_errors.py::test_before_the_first_byte_an_error_is_a_status",
            "tests/service/test_errors.py::test_after_the_first_byte_an_error_is_an_event",
            "tests/test_sdk_provider.py::test_refusals_are_renamed_and_never_echoed",
        ),
    ),
    Row(
        "tools that hang, swell, fork or do not die",
        "deadline, cap on size; the whole process group is killed",
        "{behaviours} ways to misbehave: over by deadline + 1 s, no process, thread or descriptor left",
        (
            "tests/test_tools_deadline.py::test_a_call_is_over_by_its_deadline_and_a_cancel_after_that_finds_nothing_to_end",
            "tests/test_tools_deadline.py::test_a_call_is_over_when_it_is_cancelled",
            "tests/test_tools_deadline.py::test_there_are_enough_ways_to_misbehave",
            "tests/test_tools_isolation.py::test_a_killed_service_takes_its_tools_along",
        ),
    ),
    Row(
        "a model that never comes to an end",
        "caps on steps, calls and bytes; a detector of repeated calls",
        "{scripts} hostile scripts: steps and calls stop exactly at the cap, bytes at most one upstream read beyond",
        (
            "tests/security/test_runaway.py::test_a_hostile_script_stops_at_the_cap",
            "tests/machine/test_units_run.py::test_case_72_a_run_has_at_most_so_many_steps",
            "tests/machine/test_units_run.py::test_case_72_the_same_calls_with_the_same_results_end_a_run",
            "tests/machine/test_units_limits.py::test_the_last_byte_that_fits_is_taken_and_the_next_one_is_not",
            "tests/machine/test_units_limits.py::test_one_call_too_many_ends_the_reply",
        ),
    ),
    Row(
        "requests within requests (smuggling)",
        "h11 at the edge",
        "{malformed} malformed requests, each with a second one behind it: 400 or a close, and the second is not run",
        (
            "tests/security/test_smuggling.py::test_a_malformed_request_ends_its_connection",
            "tests/security/test_smuggling.py::test_a_sound_request_lets_the_next_one_in",
            "tests/server/test_requests.py::test_mangled_requests_harm_nobody",
        ),
    ),
    Row(
        "scripts in the page (XSS)",
        "text becomes elements of React, raw HTML stays text; no remote images; strict CSP and Trusted Types",
        "{payloads} payloads, {payload_words} ways to split their text in two, {payload_reads} to split what the wire "
        "carries, in the browser: no script, nothing held off by the CSP, no request to anybody else",
        (
            "tests/web/test_payloads.py::test_split_at_every_character_and_every_byte",
            "tests/web/test_payloads.py::test_wherever_an_answer_has_text",
            "tests/web/test_payloads.py::test_wherever_an_answer_that_one_comes_late_to_has_text",
            "tests/web/test_payloads.py::test_what_a_provider_and_a_tool_send_character_by_character",
            "tests/web/test_payloads.py::test_what_a_server_refuses_with_and_what_a_user_asks",
        ),
    ),
    Row(
        "packages of others",
        "exact pins with hashes, an SBOM",
        "installs with `--require-hashes`; the SBOM is valid",
        (
            "tests/test_supply.py::test_all_that_comes_with_these_is_pinned_as_well",
            "tests/test_supply.py::test_pins_that_were_spoiled_are_found",
            "tests/test_supply.py::test_the_bill_of_materials_is_valid_and_has_everything_that_is_installed",
        ),
    ),
)

HEAD: Final = """# Security

Made from `tests/security/rows.py` by `python -m tests.specs`; do not edit. Each row is a threat, what stands against
it, what has to be seen, and the tests in which it is seen. The counts are those that the tests enforce.
"""


def page() -> str:
    """Return the page of all rows."""
    lines = [HEAD, "| threat | control | what is seen | tests |", "|---|---|---|---|"]
    for row in ROWS:
        tests = ", ".join(f"`{test}`" for test in row.tests)
        lines.append(f"| {row.threat} | {row.control.format()} | {row.shown} | {tests} |")
    return "\n".join(lines) + "\n"
