"""docs/hostile-programs.md is what the programs say."""

from tests.hostile import document


def test_the_page_of_hostile_programs_is_current():
    assert document.PAGE.read_text(encoding="utf-8") == document.page(), "run python -m tests.hostile.document"
