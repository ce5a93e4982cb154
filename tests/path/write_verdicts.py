"""`python -m tests.path.write_verdicts` writes specs/verdicts.md anew."""

from tests.path.test_corpus import PAGE
from tests.path.verdicts import page

if __name__ == "__main__":
    PAGE.write_text(page())
