"""The notebook through a real executor: large results, interrupts in the wrong moment, forged reports, input, languages."""

import json
import time

import pytest
import pytest_asyncio
from tests.component.executor_process import LocalExecutor, executor

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    async with executor(slots=2) as running:
        await running.claim()
        yield running


PLACES = pytest.mark.parametrize("stateless", [True, False], ids=["a run", "a context"])


def end(events):
    return events[-1]["status"], events[-1]["reason"], events[-1]["truncated"]


def results(events):
    return [event for event in events if event["type"] == "result"]


def errors(events):
    return [event["name"] for event in events if event["type"] == "error"]


async def answer(shared: LocalExecutor, code: str, **fields):
    """Run code, and see that the same place is well afterwards."""
    began = time.monotonic()
    events = await shared.execute(code, **fields)
    assert time.monotonic() - began < fields.get("timeout_seconds", 20) + 1
    assert events[-1]["type"] == "end_of_execution"
    assert [event["type"] for event in events].count("end_of_execution") == 1
    again = await shared.execute("6 * 7", stateless=fields.get("stateless", True))
    assert (results(again)[0]["text"], end(again)) == ("42", ("Succeeded", "", False))
    return events


SHOWN = "class Shown:\n    def __init__(self, size): self.size = size\n    def _repr_{}_(self): return {} * self.size\n    def __repr__(self): return 'small'\n"


@PLACES
@pytest.mark.parametrize(
    ("method", "piece", "mime"),
    [("png", "b'x'", "image/png"), ("html", "'h'", "text/html"), ("html", "'\\0'", "text/html")],
)
async def test_a_result_larger_than_any_allowance_is_a_sentence_and_a_flag(shared, stateless, method, piece, mime):
    code = SHOWN.format(method, piece) + "print('before')\ndisplay(Shown(10_000_000))\nprint('after')\n'the answer'"
    events = await answer(shared, code, stateless=stateless)
    shown, main = results(events)
    assert shown.keys() == {"type", "text", "is_main_result"}
    assert shown["text"].startswith(f"small\n[execpool left out {mime}: ")
    assert (main["text"], main["is_main_result"]) == ("the answer", True)
    assert end(events) == ("Succeeded", "", True)
    assert "".join(event["text"] for event in events if event["type"] == "stdout") == "before\nafter\n"


@PLACES
async def test_results_that_are_large_together_leave_the_first_the_answer_and_the_error(shared, stateless):
    code = SHOWN.format("html", "'h'") + "for _ in range(4): display(Shown(3_000_000))\nprint('told')\n1/0"
    events = await answer(shared, code, stateless=stateless)
    first, *others = results(events)
    assert len(first["html"]) == 3_000_000
    assert [set(event) for event in others] == [{"type", "text", "is_main_result"}] * 3
    assert {event["text"] for event in others} == {
        "small\n[execpool left out a result: 2.9 MiB, and results of one run have 4 MiB]"
    }
    assert (errors(events), end(events)) == (["ZeroDivisionError"], ("Failed", "", True))


@PLACES
async def test_results_without_end_are_ended(shared, stateless):
    code = SHOWN.format("html", "'h'") + "while True: display(Shown(3_000_000))"
    events = await answer(shared, code, stateless=stateless)
    assert end(events) == ("Killed", "OutputLimit", True)


@PLACES
async def test_a_result_that_is_nested_deeper_than_json_is_written_is_left_out(shared, stateless):
    code = "from IPython.display import JSON\ndeep = []\nfor _ in range(400): deep = [deep]\ndisplay(JSON(deep))\n'the answer'"
    events = await answer(shared, code, stateless=stateless)
    assert results(events)[-1]["text"] == "the answer"
    assert end(events) == ("Succeeded", "", True)


IMPATIENT = (
    SHOWN.format("html", "'h'")
    + """
import signal
class Impatience(Exception): pass
def handler(*_): raise Impatience
signal.signal(signal.SIGALRM, handler)
interrupted = 0
for attempt in range(28):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001 + attempt * 0.00004)
        display(Shown(130_000))
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Impatience:
        interrupted += 1
print(interrupted)
"""
)


@PLACES
async def test_an_interrupt_of_the_programs_own_leaves_no_half_event(shared, stateless):
    events = await answer(shared, IMPATIENT, stateless=stateless)
    assert int("".join(event["text"] for event in events if event["type"] == "stdout")) > 0
    assert {len(event["html"]) for event in results(events) if "html" in event} == {130_000}
    assert set(errors(events)) <= {"Impatience"}  # of what interrupted a formatter, IPython makes an error and goes on
    assert not events[-1]["truncated"], "a line of the report pipe was no event"


async def test_a_context_that_is_interrupted_while_it_shows_things_is_whole_and_keeps_its_state(shared):
    for attempt in range(6):
        code = SHOWN.format("html", "'h'") + f"state = {attempt}\nwhile True: display(Shown(2_000))"
        events = await answer(shared, code, stateless=False, timeout_seconds=0.15 + attempt * 0.01)
        assert {len(event["html"]) for event in results(events) if "html" in event} == {2_000}
        assert (errors(events), end(events)[:2]) == (["KeyboardInterrupt"], ("TimedOut", "TimeLimit"))
        assert results(await shared.execute("state", stateless=False))[0]["text"] == str(attempt)


FORGED = [
    {"type": "end_of_execution", "status": "Succeeded"},
    {"type": "stdout", "text": "forged"},
    {"type": "result", "text": {"a": 1}, "png": 5, "is_main_result": True},
    {"type": "result", "text": "typed", "chart": "c", "evil": 1, "is_main_result": 1},
    {"type": "error", "name": ["E"], "value": "v"},
    {"type": "error", "name": "E", "value": 7, "traceback": None, "evil": 1},
    {"type": "done", "nonce": 1, "well": "yes"},
]


@PLACES
async def test_what_a_program_forges_on_its_report_pipe_has_the_types_of_the_protocol_or_is_dropped(shared, stateless):
    lines = "".join(json.dumps(event) + "\n" for event in FORGED) + "[[[\n" + "[" * 5000 + "\n\n"
    events = await answer(shared, f"import os\nos.write(3, {lines!r}.encode())\n'own'", stateless=stateless)
    assert [event for event in events if event["type"] not in ("number_of_executions", "end_of_execution")] == [
        {"type": "result", "text": "typed", "is_main_result": False},
        {"type": "error", "name": "E", "value": "", "traceback": ""},
        {"type": "result", "text": "own", "is_main_result": True},
    ]
    assert end(events) == ("Failed", "", True)


@PLACES
@pytest.mark.parametrize("call", ["input('name? ')", "import getpass\ngetpass.getpass()"])
async def test_input_is_refused_at_once_with_a_sentence(shared, stateless, call):
    events = await answer(shared, call, stateless=stateless, timeout_seconds=5)
    (error,) = [event for event in events if event["type"] == "error"]
    assert error["name"] == "StdinNotImplementedError"
    assert error["value"].endswith("was called, but this frontend does not support input requests.")
    assert "execpool: nobody answers a program here" in error["traceback"]
    assert end(events) == ("Failed", "", False)


@PLACES
@pytest.mark.parametrize(
    "code", ["import sys\nsys.stdin.read()", "%%bash\nread line || echo none", "import pdb\npdb.set_trace()\n1"]
)
async def test_nobody_waits_for_standard_input(shared, stateless, code):
    assert end(await answer(shared, code, stateless=stateless, timeout_seconds=5))[1] == ""


@pytest.mark.parametrize(
    "language", ["javascript", "js", "typescript", "ts", "r", "java", "deno", "perl", "", "python2"]
)
async def test_languages_that_do_not_run_here_are_refused_as_e2b_does(shared, language):
    for path, body in (("/execute", {"code": "1", "language": language}), ("/contexts", {"language": language})):
        async with shared.http.post(f"{shared.data_url}{path}", json=body, headers=shared.headers()) as reply:
            assert reply.status == 500
            assert reply.headers["content-type"].startswith("text/plain")
            assert await reply.text() == f"{language!r} does not run here; python and bash do"


@pytest.mark.parametrize(("language", "shown"), [("python", "3"), (" Python3 ", "3"), (None, "3")])
async def test_names_of_python_are_python(shared, language, shown):
    assert results(await shared.execute("1 + 2", language=language))[0]["text"] == shown


@pytest.mark.parametrize("language", ["bash", "sh", "BASH"])
async def test_names_of_bash_are_bash(shared, language):
    events = await shared.execute("echo $((1 + 2))", language=language)
    assert [event["text"] for event in events if event["type"] == "stdout"] == ["3\n"]
