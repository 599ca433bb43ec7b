"""docs/notebook.md is what the snippets, the corpus and the limits say."""

import re

from tests.component import notebook_page
from tests.component.notebook_snippets import SNIPPETS

from execpool.api.generate import CHECKOUT


def test_the_page_of_the_notebook_is_current():
    current = notebook_page.PAGE.read_text(encoding="utf-8")
    assert current == notebook_page.page(), "run python -m tests.component.notebook_page"


def test_every_difference_from_a_kernel_is_on_the_page():
    page = notebook_page.page()
    assert [snippet.name for snippet in SNIPPETS if snippet.differs and snippet.name not in page] == []


def test_the_page_names_files_that_exist():
    named = re.findall(r"\b(?:operator|tests)/[\w./]*\w", notebook_page.page())
    assert [path for path in named if not (CHECKOUT / path).exists()] == []
