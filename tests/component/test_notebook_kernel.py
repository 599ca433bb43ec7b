"""The notebook beside a real ipykernel: the same cells through both, compared in everything a client sees.

Left out of the comparison, since they must differ or nobody could compare them: colours, which a kernel makes Python use
in its own messages; the number in `In[3]`, addresses, measured times, the cell's file name, a warning that IPython
gives once per kernel on how to exit, where Python and the home directory are, and the bytes of pictures. E2B's own
additions to a result (json, data, chart) are tested in test_notebook_cells.py.
"""

import re

import pytest
from tests.component.notebook_host import Host
from tests.component.notebook_kernel import Kernel
from tests.component.notebook_snippets import SNIPPETS

from execpool.executor.runner import display_events

pytestmark = [pytest.mark.timeout(300)]

ASPECTS = ("stdout", "stderr", "results", "error", "traceback", "order")

VARIES = [
    (re.compile(r"In\[\d+\]"), "In[N]"),
    (re.compile(r"0x[0-9a-f]{4,}"), "0xADDRESS"),
    (re.compile(r"/tmp/ipykernel_\d+/\d+\.py|<ipython-input-\d+-[0-9a-f]+>"), "<cell>"),
    (re.compile(r"\(\d+\.py, line|\(<cell>, line"), "(CELL, line"),
    (re.compile(r"^.*: UserWarning: To exit: use .*\n.*\n", re.MULTILINE), ""),
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"[\d.]+(?:e\+\d+)? ?(ns|\u03bcs|us|ms|s)\b"), "TIME"),
    (re.compile(r"(~|/root)?/[\w./~-]*?/(site-packages|python3\.\d+)/"), "LIB/"),
    (re.compile(r"/tmp/execpool-kernel-\w+|/tmp/tmp\w+"), "CWD"),
]


@pytest.fixture(scope="module")
def host():
    with Host() as running:
        yield running


@pytest.fixture(scope="module")
def kernel():
    with Kernel() as running:
        yield running


def test_the_table_is_long_enough_and_its_names_are_its_own():
    assert len(SNIPPETS) >= 60
    assert len({snippet.name for snippet in SNIPPETS}) == len(SNIPPETS)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.name)
def test_a_cell_says_what_a_kernel_says(host, kernel, snippet):
    if snippet.fresh:
        kernel.make_new()
    theirs = seen(kernel.run(*snippet.cells))
    ours = seen(host.run(*snippet.cells), like=theirs)
    if snippet.fresh:
        kernel.make_new()
    different = {name for name in ASPECTS if ours[name] != theirs[name]}
    if "results" in snippet.differs:
        different.discard("order")
    assert different == set(snippet.differs), {name: (theirs[name], ours[name]) for name in different}
    for name, difference in snippet.differs.items():
        assert difference.kernel in said(theirs[name]), (name, difference.why)
        assert difference.ours in said(ours[name]), (name, difference.why)


def seen(cells, like=None):
    """What a client sees of cells, by aspect; a format that only E2B has is left out when the kernel has none."""
    results = [[event for event in cell["events"] if event["type"] == "result"] for cell in cells]
    errors = [next((event for event in cell["events"] if event["type"] == "error"), None) for cell in cells]
    found = {
        "stdout": [steady(cell["stdout"]) for cell in cells],
        "stderr": [steady(cell["stderr"]) for cell in cells],
        "results": [[(event["is_main_result"], bundle(event)) for event in events] for events in results],
        "error": [error and (error["name"], steady(error["value"])) for error in errors],
        "traceback": [error and steady(error["traceback"]) for error in errors],
        "order": [[position(cell, event) for event in cell["events"]] for cell in cells],
    }
    if like:
        found["results"] = [
            [(main, without_additions(each, index, cell, like)) for index, (main, each) in enumerate(events)]
            for cell, events in enumerate(found["results"])
        ]
    return found


def bundle(event):
    """The formats of a result, whoever sent it."""
    if "bundle" in event:
        formats = dict(event["bundle"])
        if "text/plain" in formats:
            formats["text/plain"] = display_events.unquoted(formats["text/plain"])
    else:
        names = {field: mime for mime, field in display_events.FIELDS.items()}
        formats = {names[field]: value for field, value in event.items() if field in names} | event.get("extra", {})
    pictures = {
        mime: "<picture>"
        for mime in formats
        if mime.startswith("image/") and (mime != "image/svg+xml" or "matplotlib" in formats[mime])
    }
    texts = {mime: steady(value) for mime, value in formats.items() if isinstance(value, str)}
    return {**formats, **texts, **pictures}


def without_additions(formats, index, cell, like):
    events = like["results"][cell]
    theirs = events[index][1] if index < len(events) else {}
    additions = {"e2b/data", "e2b/chart"} | ({"application/json"} - set(theirs))
    return {mime: value for mime, value in formats.items() if mime not in additions}


def position(cell, event):
    """How many lines of output came before an event."""
    out, _ = event["after"]
    return event["type"], event.get("is_main_result"), cell["stdout"].encode()[:out].count(b"\n")


def steady(text):
    for pattern, name in VARIES:
        text = pattern.sub(name, text)
    return text


def said(aspect):
    """An aspect as one text, to look for a part of it."""
    if isinstance(aspect, list):
        return "\n".join(each if isinstance(each, str) else repr(each) for each in (aspect if any(aspect) else [[]]))
    return str(aspect)
