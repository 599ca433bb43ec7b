"""What a cell and a program give beyond a kernel's rules: E2B's fields, limits, exits, and that no warm-up shows."""

import base64

import pytest
from e2b_code_interpreter.charts import BarChart, LineChart
from e2b_code_interpreter.models import Result
from tests.component.notebook_host import Host

from execpool.executor.runner import display_events


@pytest.fixture(scope="module")
def host():
    with Host() as running:
        yield running


def results(cell):
    return [event for event in cell["events"] if event["type"] == "result"]


def error(cell):
    (event,) = [event for event in cell["events"] if event["type"] == "error"]
    return event


def test_nothing_of_the_warm_up_is_left(host):
    names, count, previous, modules = host.run(
        "sorted(name for name in globals() if not name.endswith('__') or name in ('__', '___'))",
        "get_ipython().execution_count, len(In)",
        "_ih[0], _i1[:6], Out[1][:1]",
        "import sys; hasattr(sys, 'last_value'), [name for name in sys.modules['linecache'].cache if 'input-0' in name]",
    )
    left = "['In', 'Out', '_', '__', '___', '_dh', '_i', '_i1', '_ih', '_ii', '_iii', '_oh', 'exit', 'get_ipython', 'open', 'quit']"
    assert results(names)[0]["text"].replace("\n", "") == left
    assert results(count)[0]["text"] == "(3, 3)"
    assert results(previous)[0]["text"].startswith("('', 'sorted'")
    assert results(modules)[0]["text"] == "(False, [])"


def test_lists_and_dicts_come_as_json_too(host):
    numbers, mapping, mixed, huge = host.run(
        "[1, 2.5, None, 'x']", "import numpy\n{'a': numpy.arange(2), 3: True}", "[object()]", "list(range(400_000))"
    )
    assert results(numbers)[0]["json"] == [1, 2.5, None, "x"]
    assert results(mapping)[0]["json"] == {"a": [0, 1], "3": True}
    assert "json" not in results(mixed)[0]
    assert "json" not in results(huge)[0]


def test_a_data_frame_comes_as_data_too(host):
    code = (
        "import pandas as pd, datetime\n"
        "pd.DataFrame({'t': pd.to_datetime(['2026-01-02', None]), 'n': [1.5, None], 'i': [1, 2],"
        " 'd': [datetime.date(2026, 1, 2), None], 'o': [object, 'x'], 3: [True, False]})"
    )
    (cell,) = host.run(code)
    data = results(cell)[0]["data"]
    assert data == {
        "t": ["2026-01-02T00:00:00", None],
        "n": [1.5, None],
        "i": [1, 2],
        "d": ["2026-01-02", None],
        "o": ["<class 'object'>", "x"],
        "3": [True, False],
    }
    assert "<table" in results(cell)[0]["html"]


def test_a_large_data_frame_has_its_text_alone(host):
    (cell,) = host.run("import pandas as pd\npd.DataFrame({'a': range(400_000)})")
    assert "data" not in results(cell)[0]
    assert "400000 rows" in results(cell)[0]["text"]


def test_a_figure_is_a_picture_and_a_chart(host):
    lines, bars = host.run(
        "import matplotlib.pyplot as plt\nplt.plot([1, 2], [3, 4], label='l')\nplt.title('T')\nplt.show()",
        "import pandas as pd\npd.Series({'a': 1, 'b': 2}).plot.bar();",
    )
    line, bar = (Result(**results(cell)[-1]) for cell in (lines, bars))
    assert isinstance(line.chart, LineChart)
    assert (line.chart.title, line.chart.elements[0].label, line.chart.elements[0].points) == (
        "T",
        "l",
        [(1, 3), (2, 4)],
    )
    assert base64.b64decode(line.png).startswith(b"\x89PNG")
    assert isinstance(bar.chart, BarChart)
    assert [(element.label, element.value) for element in bar.chart.elements] == [("a", 1), ("b", 2)]


def test_saving_a_figure_shows_it_once(host):
    (cell,) = host.run(
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.savefig('f.png')\nplt.savefig('f.jpg')\nNone"
    )
    assert [event["text"] for event in results(cell)] == ["<Figure size 640x480 with 1 Axes>"]


def test_a_picture_is_shown_when_it_is_shown_or_saved(host):
    (cell,) = host.run(
        "from PIL import Image\ni = Image.new('RGB', (2, 2))\ni.show()\ni.save('i.png')\nimport os; os.path.exists('i.png')"
    )
    assert ["png" in event for event in results(cell)] == [True, True, False]
    assert results(cell)[-1]["text"] == "True"


def test_too_large_a_value_leaves_a_note_and_the_answer(host):
    code = (
        "class Big:\n    def _repr_html_(self): return 'h' * (5 << 20)\n    def __repr__(self): return 'small'\nBig()"
    )
    big, text = host.run(code, "'x' * (5 << 20)")
    assert "html" not in results(big)[0]
    assert results(big)[0]["text"] == "small\n[execpool left out text/html: 5.0 MiB, more than fits one event]"
    assert len(results(text)[0]["text"]) < display_events.MAX_TEXT + 100


@pytest.mark.parametrize("call", ["exit()", "exit(0)", "exit(None)", "exit(False)"])
def test_a_program_that_says_it_ended_well_is_believed(host, call):
    (cell,) = host.run(f"import sys\nsys.{call}\nprint('not reached')", program=True)
    assert (cell["well"], cell["how"], cell["events"], cell["stdout"], cell["stderr"]) == (True, "exit", [], "", "")


def test_a_cell_that_says_so_is_an_error_as_in_a_kernel(host):
    first, second = host.run("import sys\nsys.exit(0)", "1")
    assert (first["well"], first["how"], error(first)["name"]) == (True, "exit", "SystemExit")
    assert results(second)[0]["text"] == "1"


def test_another_exit_status_is_a_failure_and_a_text_goes_to_stderr(host):
    (status,) = host.run("import sys\nsys.exit(3)", program=True)
    assert (status["well"], status["exit_code"], error(status)["value"]) == (False, 3, "3")
    (text,) = host.run("raise SystemExit('no luck')", program=True)
    assert (text["well"], text["exit_code"], text["stderr"]) == (False, 1, "no luck\n")


def test_a_program_waits_for_its_threads_and_runs_its_exit_functions(host):
    code = "import atexit, threading, time\natexit.register(print, 'left')\nthreading.Thread(target=lambda: (time.sleep(0.2), print('worked'))).start()\nprint('main')"
    (cell,) = host.run(code, program=True)
    assert (cell["stdout"], cell["well"]) == ("main\nworked\nleft\n", True)


def test_what_c_wrote_is_not_lost(host):
    (cell,) = host.run("import ctypes\nctypes.CDLL(None).printf(b'from C\\n')\nNone", program=True)
    assert cell["stdout"] == "from C\n"


HOSTILE = [
    ("a repr that exits", "class A:\n    def __repr__(self): raise SystemExit(4)\nA()", "SystemExit"),
    ("a repr that interrupts", "class A:\n    def __repr__(self): raise KeyboardInterrupt\nA()", "KeyboardInterrupt"),
    ("an exception that cannot be text", "class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "E"),
    ("an exception that refuses attributes", "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass E(Exception):\n    x: int\nraise E(1)", "E"),
    ("no streams", "import sys\nsys.stdout = sys.stderr = None\nraise ValueError", "ValueError"),
    ("closed descriptors", "import os\nos.close(1); os.close(2)\nprint('x')", "OSError"),
    ("memory", "bytearray(1 << 62)", "MemoryError"),
    ("a json that cannot be", "class J(dict):\n    def items(self): raise OSError\nJ(a=object())\n1/0", "ZeroDivisionError"),
    ("an exit code that cannot be compared", "import numpy, sys\nsys.exit(numpy.arange(3))", "SystemExit"),
    ("a shell that was taken apart", "ip = get_ipython()\nip.display_formatter = None\n1", "AttributeError"),
    ("history that was taken away", "get_ipython().history_manager = None\n1/0", "ZeroDivisionError"),
    ("deep nesting", "(" * 300 + ")" * 300, "SyntaxError"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "name"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_whatever_is_raised_wherever_is_an_error_by_name(host, code, name):
    (cell,) = host.run(code, program=True)
    assert (cell["well"], error(cell)["name"]) == (False, name)


def test_a_refused_socket_is_explained_without_network_only(host):
    code = "import errno\ntry:\n    raise OSError(errno.ENETUNREACH, 'x')\nexcept OSError as e:\n    raise RuntimeError('no') from e"
    (without,) = host.run(code, network=False)
    (with_network,) = host.run(code)
    assert "no network" in error(without)["traceback"]
    assert "no network" not in error(with_network)["traceback"]


def test_tracebacks_have_no_frames_and_no_colours_of_ours(host):
    cells = host.run("!sleep 1 &", "%%bash\nexit 1", "exit(2)", "raise ExceptionGroup('g', [ValueError()])")
    for cell in cells:
        assert "execpool" not in error(cell)["traceback"]
        assert "interactiveshell" not in error(cell)["traceback"]
        assert "\x1b" not in error(cell)["traceback"]


def test_asyncio_works_as_in_a_program_too(host):
    code = "import asyncio\nasync def main():\n    task = asyncio.create_task(asyncio.sleep(0, 'ran'))\n    return await task\n"
    run, loop, mixed = host.run(code + "asyncio.run(main())", code + "await main()", code + "asyncio.run(main())")
    assert [results(cell)[0]["text"] for cell in (run, loop, mixed)] == ["ran"] * 3


def test_magics_need_no_home_and_leave_no_files(host):
    store, bookmark, alias = host.run(
        "%cd -q /\n%cd -q -\n%dhist", "%bookmark here\n%bookmark -l", "%alias say echo said\n%say it"
    )
    assert "error" not in {event["type"] for cell in (store, bookmark, alias) for event in cell["events"]}
    assert alias["stdout"] == "said it\n"


def test_pip_says_what_pip_says(host):
    (cell,) = host.run("%pip --version")
    assert cell["stdout"].startswith("pip ") or "pip is not part of" in cell["stderr"]
