"""The table of threats holds what it says: its tests exist, and enforce the counts that it shows."""

import re

import pytest

from tests.security.rows import COUNTS, ROWS, Row
from tests.test_specs import ROOT, defined_in


@pytest.mark.parametrize("row", ROWS, ids=[row.threat for row in ROWS])
def test_a_row_names_tests_that_exist_and_take_their_counts_from_it(row: Row) -> None:
    assert row.tests
    files = {node.partition("::")[0] for node in row.tests}
    for node in row.tests:
        file, _, test = node.partition("::")
        assert (ROOT / file).is_file(), f"no file {file}"
        assert test in defined_in(ROOT / file), f"no test {node}"
    sources = "".join((ROOT / file).read_text(encoding="utf-8") for file in files)
    for name in re.findall(r"\{(\w+)\}", row.bar):
        assert name in COUNTS
        assert f'["{name}"]' in sources, f"no test of this row enforces {name}"


def test_every_count_is_shown_once() -> None:
    shown = [name for row in ROWS for name in re.findall(r"\{(\w+)\}", row.bar)]
    assert sorted(shown) == sorted(COUNTS)
