"""Cells whose outcome must be a real kernel's, and every difference by name.

A snippet is a list of cells run one after the other in a process that is new or as good as new. `differs` maps an
aspect of the outcome (stdout, stderr, results, error, traceback, order) to why it is not the kernel's, and to a part
of what either side says: the test fails when a difference appears, and when one goes away.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Difference:
    """Why one aspect is not the kernel's; `kernel` and `ours` are found in what either says."""

    why: str
    kernel: str
    ours: str


@dataclass(frozen=True)
class Snippet:
    name: str
    cells: tuple[str, ...]
    differs: dict[str, Difference] = field(default_factory=dict)
    fresh: bool = False
    """True when the kernel must be new: its counters or names show."""


def snippet(name, *cells, fresh=False, **differs):
    return Snippet(name, cells, differs, fresh)


NO_TERMINAL = "programs write to a pipe, since the filter refuses terminals: line ends stay \\n instead of \\r\\n"
ONE_TREE = "a cell is parsed once, so the parser's warning comes once, under the cell's own name"
NO_RUNNING_LOOP = "no event loop runs under a cell that does not wait: asyncio.run() works, as in a program"
PAGER = "the text goes to a front end's pager, which E2B's clients do not have; here it is a result that they see"
GROUP = (
    "a kernel prints a group with frames of its own to stderr, and its error has no traceback; here the error has it"
)
CARE = "a kernel cannot open the cell's file and takes IPython's short form: the line where a frame is now, not where it raised; every frame of a recursion; other margins. Here it is the long form"
OWN_FRAME = "a kernel shows the frame of its own that refused"
INPUT = "a kernel shows the frame of its own that refused; here a note says what to do instead"
PLAIN_EXIT = (
    "exit() ends the cell as sys.exit() does; a kernel goes on with the cell, and waits for a front end to end it"
)
UNPRINTABLE = "the kernel reports the error of reporting the error; here it is the program's own"
SAVED = "E2B displays a picture that is saved, and so do we"
LARGE = "a result that is larger than fits one event (3.5 MiB) keeps both ends of its text and loses its largest formats, and says so"

SNIPPETS = [
    # Expressions and their text.
    snippet("a number", "1+1"),
    snippet("a float", "0.1 + 0.2"),
    snippet("a text loses its quotes", "'abc'"),
    snippet("a text in double quotes", '"it\'s"'),
    snippet("several lines in a text", "'''one\ntwo'''"),
    snippet("unicode", "'gr\u00fc\u00df \U0001f40d \u4e2d'"),
    snippet("nothing", "None"),
    snippet("an empty cell", ""),
    snippet("blank lines and a comment", "\n\n# nothing\n"),
    snippet("an assignment", "number = 5"),
    snippet("the last of several expressions", "1\n2\n3"),
    snippet("an expression in a block", "if True:\n    4"),
    snippet("a semicolon", "5;"),
    snippet("a semicolon before a comment", "6;  # quiet"),
    snippet("a semicolon in a text", "'a;b'"),
    snippet("two statements on a line", "a = 1; a + 1"),
    snippet("a tuple", "(1, 'a')"),
    snippet("a nested list", "[[1, 2], {'k': (3.5, None)}]"),
    snippet("a long list is cut", "list(range(2000))"),
    snippet("a wide dict is wrapped", "{f'key{i}': 'value' * 5 for i in range(12)}"),
    snippet("a set in order", "{3, 1, 2}"),
    snippet("bytes", "b'\\x00\\xff'"),
    snippet("a function", "def named(x): return x\nnamed"),
    snippet("a class", "class Named: pass\nNamed"),
    snippet("an object", "object()"),
    snippet("a generator", "(i for i in ())"),
    snippet("a module", "import json\njson.__name__, json"),
    snippet("a dataclass", "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nP(1)"),
    snippet("an enum", "from enum import Enum\nclass Colour(Enum):\n    RED = 1\nColour.RED"),
    snippet("main", "__name__"),
    snippet("annotations from the future", "from __future__ import annotations\ndef f(a: nope): ...\nf.__annotations__"),
    snippet("the future lasts", "from __future__ import annotations", "def g(a: nope): ...\ng.__annotations__", fresh=True),
    snippet("a NUL in a text", "'a\\x00b'"),
    snippet("a lone surrogate", "ascii('\\ud800')"),
    snippet("an indented cell", "    x = 3\n    x + 1"),
    snippet("a pasted session", ">>> x = 3\n>>> x * 2"),
    snippet("walrus, match and lambda", "(y := 4)\nmatch y:\n    case 4: z = 'four'\n(lambda: z)()"),
    # Printing and its order.
    snippet("print", "print('a')\nprint('b', end='')"),
    snippet("print, then a result", "print('before')\n'after'"),
    snippet("print and display in turn", "print('one')\ndisplay('two')\nprint('three')\ndisplay('four')\n'five'"),
    snippet("errors and output", "import sys\nprint('out')\nprint('err', file=sys.stderr)"),
    snippet("writing to the descriptor", "import sys\nsys.stdout.write('written\\n')"),
    snippet("redirected output", "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as kept:\n    print('hidden')\nkept.getvalue()"),
    snippet("print a surrogate-free emoji", "print('\U0001f600')"),
    snippet("a progress line", "print('10%', end='\\r')\nprint('100%')"),
    snippet("a warning", "import warnings\nwarnings.warn('careful')"),
    snippet("a deprecation in main", "import warnings\nwarnings.warn('old', DeprecationWarning)"),
    snippet("logging", "import logging\nlogging.getLogger('mine').warning('logged %s', 1)"),
    snippet("logging below its level", "import logging\nlogging.getLogger('mine').info('unseen')"),
    snippet("a warning of the parser", "x = 1\nx is 1", stderr=Difference(ONE_TREE, "<>:2: SyntaxWarning", "<cell>:2: SyntaxWarning")),
    # Errors.
    snippet("an error", "1/0"),
    snippet("an error in a function", "def inner(a):\n    return a['missing']\n\ndef outer():\n    return inner({})\n\nouter()", traceback=Difference(CARE, "3 ", "----> 7 outer()")),
    snippet("an error after output", "print('first')\nraise ValueError('second')"),
    snippet("an error with a cause", "try:\n    {}['a']\nexcept KeyError as error:\n    raise ValueError('bad') from error", traceback=Difference(CARE, "Cell In[N], line 4", "Cell In[N], line 2")),
    snippet("an error while handling", "try:\n    1/0\nexcept ZeroDivisionError:\n    undefined_name_here", traceback=Difference(CARE, "Cell In[N], line 4", "Cell In[N], line 2")),
    snippet("an error without a cause", "try:\n    1/0\nexcept ZeroDivisionError:\n    raise OSError('x') from None", traceback=Difference(CARE, "1 try:", "----> 4")),
    snippet("an error with a note", "error = ValueError('v')\nerror.add_note('a note')\nraise error"),
    snippet("an unknown name", "undefined_name_here"),
    snippet("a missing module", "import no_such_module_here"),
    snippet("an assertion", "assert 1 == 2, 'not equal'"),
    snippet("an error of one's own", "class MyError(Exception): pass\nraise MyError('mine', 2)"),
    snippet("an error in a library", "import json\njson.loads('{')"),
    snippet("recursion", "def f(n): return f(n + 1)\nf(0)", traceback=Difference(CARE, "Cell In[N], line 1, in f(n)", "skipping similar frames: f at line 1")),
    snippet("keyboard interrupt", "raise KeyboardInterrupt"),
    snippet("an interrupt by signal", "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)"),
    snippet("an unfinished line", "1 +"),
    snippet("a bracket left open", "print((1, 2)"),
    snippet("wrong indentation", "if True:\nprint(1)"),
    snippet("unequal indentation", "if True:\n    a = 1\n  b = 2"),
    snippet("a text left open", "'abc"),
    snippet("a keyword as a name", "class = 3"),
    snippet("return outside", "x = 1\nreturn x"),
    snippet("a syntax error at run time", "compile('1 +', 'there', 'exec')"),
    snippet("eval of bad code", "eval('a b')"),
    snippet("what came before a late error of the compiler", "print('ran')\nbreak"),
    snippet("a NUL in the code", "a = '\0'"),
    snippet("an error that cannot be shown", "class E(Exception):\n    def __str__(self): raise ValueError('no text')\nraise E", error=Difference(UNPRINTABLE, "ValueError", "('E', '<exception str() failed>')"), traceback=Difference(UNPRINTABLE, "During handling", "----> 3 raise E")),
    snippet("an exception group", "raise ExceptionGroup('several', [ValueError(1), TypeError('t')])", stderr=Difference(GROUP, "interactiveshell.py", ""), traceback=Difference(GROUP, "", "ExceptionGroup: several (2 sub-exceptions)")),
    snippet("exit()", "print('before')\nexit()\nprint('not reached')", error=Difference(PLAIN_EXIT, "", "SystemExit"), stdout=Difference(PLAIN_EXIT, "not reached", "before"), traceback=Difference(PLAIN_EXIT, "", "SystemExit"), order=Difference(PLAIN_EXIT, "", "error"), fresh=True),
    snippet("exit with a status", "import sys\nsys.exit(3)"),
    snippet("exit well is an error too", "import sys\nsys.exit(0)"),
    snippet("exit with a text", "raise SystemExit('no luck')"),
    snippet("the cell after an exit", "import sys\nsys.exit(1)", "'still here'"),
    snippet("the cell after an error", "kept = 1\n1/0", "kept"),
    snippet("input", "input('name? ')", traceback=Difference(INPUT, "Kernel.raw_input(self, prompt)", "nobody answers a program here")),
    snippet("getpass", "import getpass\ngetpass.getpass()", traceback=Difference(INPUT, "Kernel.getpass(self, prompt", "nobody answers a program here")),
    snippet("reading standard input", "import sys\nsys.stdin.readline()"),
    snippet("an error in a thread", "import threading\nt = threading.Thread(target=lambda: 1/0, name='T')\nt.start(); t.join()"),
    # Display.
    snippet("display of values", "display(1, 'two', [3])"),
    snippet("html", "from IPython.display import HTML\nHTML('<b>bold</b>')"),
    snippet("markdown and latex", "from IPython.display import Markdown, Latex\ndisplay(Markdown('# head'))\nLatex('$x^2$')"),
    snippet("svg", "from IPython.display import SVG\nSVG('<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1\" height=\"1\"/>')"),
    snippet("json and javascript", "from IPython.display import JSON, Javascript\ndisplay(JSON({'a': [1]}))\nJavascript('1+1')"),
    snippet("a picture from bytes", "from IPython.display import Image\nImage(data=b'\\x89PNG\\r\\n\\x1a\\n' + b'0' * 30, format='png')"),
    snippet("a raw bundle", "display({'text/plain': 'p', 'text/html': '<i>', 'application/x-mine': {'a': 1}}, raw=True)"),
    snippet("an object with html", "class H:\n    def _repr_html_(self): return '<h1>h</h1>'\n    def __repr__(self): return 'H()'\nH()"),
    snippet("an object with a bundle", "class B:\n    def _repr_mimebundle_(self, include=None, exclude=None): return {'text/plain': 'b', 'text/markdown': '*b*'}\nB()"),
    snippet("an object with png bytes", "class G:\n    def _repr_png_(self): return b'\\x89PNG'\n    def __repr__(self): return 'G'\nG()"),
    snippet("an object that displays itself", "class D:\n    def _ipython_display_(self): print('by itself')\nD()"),
    snippet("a repr that raises", "class R:\n    def __repr__(self):\n        raise KeyError('x')\nR()", traceback=Difference(CARE, "----> 3", "----> 3")),
    snippet("html that raises", "class Q:\n    def _repr_html_(self):\n        raise ValueError('h')\n    def __repr__(self): return 'Q'\nQ()", traceback=Difference(CARE, "----> 3", "----> 3")),
    snippet("a repr that recurses", "class L:\n    def __repr__(self): return repr(self)\nL()", traceback=Difference(CARE, "in L.__repr__(self)", "skipping similar frames: L.__repr__")),
    snippet("a text that is larger than an event", "'ab' * (1 << 20)", results=Difference(LARGE, "ababababab", "characters left out")),
    snippet("a picture that is larger than an event", "class Big:\n    def _repr_html_(self): return 'h' * (4 << 20)\n    def __repr__(self): return 'small'\nBig()", results=Difference(LARGE, "hhhhhhhhhh", "small\\n[execpool left out text/html: 4.0 MiB, more than fits one event]")),
    snippet("a list that holds itself", "loop = [1]\nloop.append(loop)\nloop"),
    snippet("a display with a name", "display('x', display_id='mine')"),
    snippet("an update of a display", "h = display('x', display_id='mine2')\nh.update('y')"),
    snippet("clear output", "from IPython.display import clear_output\nprint('a')\nclear_output()\nprint('b')"),
    snippet("a formatter of one's own", "get_ipython().display_formatter.formatters['text/plain'].for_type(complex, lambda o, p, c: p.text('C!'))\n1j"),
    # State.
    snippet("names last", "n = 2", "n * 21"),
    snippet("the last results", "1", "'two'", "_, __", "___", fresh=True),
    snippet("numbered results", "10", "20", "_1 + _2, Out[1]", "len(Out), In[1], _i", fresh=True),
    snippet("the number of the cell", "get_ipython().execution_count", fresh=True),
    snippet("a name over a builtin", "sum = 3\nsum", "del sum\nsum([1])"),
    # Magics.
    snippet("a magic that is unknown", "%no_such_magic"),
    snippet("a cell magic that is unknown", "%%no_such_magic\n1"),
    snippet("time", "%time 40 + 2"),
    snippet("timeit", "%timeit -n1 -r1 pass"),
    snippet("cell time", "%%time\nx = 1\nx + 1"),
    snippet("an environment variable", "%env EXECPOOL_TEST=1\nimport os\nos.environ['EXECPOOL_TEST']"),
    snippet("write and read a file", "%%writefile note.txt\nhello\nthere", "open('note.txt').read()", "!cat note.txt", stdout=Difference(NO_TERMINAL, "hello\r\n", "hello\n")),
    snippet("write a module and import it", "%%writefile mine_mod.py\nX = 41", "import mine_mod\nmine_mod.X + 1"),
    snippet("change directory", "import os\nos.mkdir('sub')\n%cd sub\nos.path.basename(os.getcwd())", "%cd .."),
    snippet("who", "%reset -f\nonly = 1\n%who", fresh=True),
    snippet("capture", "%%capture got\nprint('hidden')\n'value'", "got.stdout, len(got.outputs)"),
    snippet("magic in a loop", "for i in range(2):\n    %time None"),
    snippet("magic with a python value", "value = 7\n%env EXECPOOL_V={value}"),
    snippet("a line that is a magic without its sign", "pwd"),
    snippet("precision", "%precision 3\n3.14159", "%precision"),
    snippet("matplotlib inline", "%matplotlib inline\n1"),
    snippet("a wrong option", "%timeit -q"),
    snippet("load_ext", "%load_ext no_such_extension"),
    snippet("history", "a = 1", "%history", fresh=True),
    snippet("run a script", "%%writefile script.py\nprint('in script')\nresult = 9", "%run script.py", "result"),
    snippet("interactivity", "from IPython.core.interactiveshell import InteractiveShell\nInteractiveShell.ast_node_interactivity = 'all'", "1\n2", "InteractiveShell.ast_node_interactivity = 'last_expr'", fresh=True),
    snippet("a transformer of one's own", "ip = get_ipython()\nip.input_transformers_cleanup.append(lambda lines: [l.replace('PLUS', '+') for l in lines])", "1 PLUS 2", fresh=True),
    snippet("hooks around cells", "get_ipython().events.register('post_run_cell', lambda result: print('done', result.success))", "1", fresh=True),
    snippet("help", "len?", results=Difference(PAGER, "[]", "Signature: len(obj, /)")),
    snippet("source", "def shown(): return 1\nshown??", results=Difference(PAGER, "[]", "def shown(): return 1")),
    snippet("search of names", "zzz_one = 1\nzzz_*?", results=Difference(PAGER, "[]", "zzz_one")),
    snippet("html, markdown and latex by magic", "%%html\n<b>x</b>", "%%markdown\n*x*", "%%latex\n$x$", "%%javascript\n1"),
    snippet("figures as svg", "%config InlineBackend.figure_formats = ['svg']\nimport matplotlib.pyplot as plt\nplt.plot([1]);\nlen(plt.get_fignums())", "%config InlineBackend.figure_formats = ['png']", fresh=True),
    snippet("plain tracebacks", "%xmode Plain", "def f(): return 1/0\nf()", "%xmode Context", fresh=True),
    snippet("minimal tracebacks", "%xmode Minimal", "1/0", fresh=True),
    snippet("a profile", "%prun -q -s cumulative sum([1])"),
    snippet("reloading", "%load_ext autoreload\n%autoreload 2\n1", fresh=True),
    snippet("a breakpoint", "breakpoint()\n1"),
    snippet("the debugger", "%debug"),
    snippet("a macro", "1 + 1", "%macro twice 1", "twice", fresh=True),
    snippet("names by type", "%who_ls no_such_type"),
    snippet("psearch of a module", "import json\njson.d*?", results=Difference(PAGER, "[]", "json.dumps")),
    snippet("no such name for help", "no_such_name_here?"),
    snippet("list of magics", "'lsmagic' in str(get_ipython().run_line_magic('lsmagic', ''))"),
    snippet("system by magic", "%sx echo hi", "%system echo ho"),
    snippet("an alias", "%alias say echo said %s", "say it", stdout=Difference(NO_TERMINAL, "said it\r\n", "said it\n")),
    snippet("pickle of what is in main", "import pickle\nclass K:\n    pass\ntype(pickle.loads(pickle.dumps(K()))) is K"),
    snippet("source of a function", "import inspect\ndef src(): return 5\ninspect.getsource(src)"),
    snippet("a doctest", 'def add(a, b):\n    """\n    >>> add(1, 2)\n    3\n    """\n    return a + b\nimport doctest\ndoctest.run_docstring_examples(add, globals())\nadd(1, 2)'),
    snippet("exec and eval", "exec('made = 3')\neval('made + 1')"),
    snippet("globals", "globals() is locals(), '__file__' in globals()"),
    snippet("a class with a bad str in a frame", "import pandas as pd\nclass S:\n    def __repr__(self): raise ValueError('in a frame')\npd.DataFrame({'a': [S()]})", traceback=Difference(CARE, "S.__repr__(self)", "S.__repr__(self)")),
    snippet("tqdm-like bar", "import sys\nfor i in range(3): sys.stderr.write(f'\\r{i}/3')"),
    snippet("an html table by hand", "from IPython.display import display_html\ndisplay_html('<table></table>', raw=True)"),
    snippet("metadata", "from IPython.display import Image\nImage(data=b'GIF89a' + b'0' * 20, format='gif')"),
    snippet("a video and a frame", "from IPython.display import IFrame\nIFrame('https://example.org', 10, 10)"),
    snippet("a progress bar of IPython", "from IPython.display import ProgressBar\np = ProgressBar(3)\np"),
    snippet("captured output object", "from IPython.utils.capture import capture_output\nwith capture_output() as c:\n    print('in')\n    display('shown')\nc.stdout, len(c.outputs)"),
    # Programs.
    snippet("a command", "!echo hello", stdout=Difference(NO_TERMINAL, "hello\r\n", "hello\n")),
    snippet("a command that fails", "!exit 3", "_exit_code"),
    snippet("a command's errors", "!echo oops >&2", stdout=Difference(NO_TERMINAL, "oops\r\n", "oops\n")),
    snippet("a command with a value", "word = 'hi'\n!echo {word} $word", stdout=Difference(NO_TERMINAL, "hi hi\r\n", "hi hi\n")),
    snippet("a command's output as a value", "lines = !printf 'a\\nb\\n'\nlines"),
    snippet("print around a command", "print('1')\n!echo 2\nprint('3')", stdout=Difference(NO_TERMINAL, "1\n2\r\n3", "1\n2\n3")),
    snippet("a command in the background", "!sleep 0 &", traceback=Difference(OWN_FRAME, "system_piped(self, cmd)", "OSError")),
    snippet("bash", "%%bash\necho out\necho err >&2\nread line || echo none"),
    snippet("bash that fails", "%%bash\nexit 2"),
    snippet("bash with its output kept", "%%bash --out kept\necho out", "kept"),
    snippet("python in another process", "%%python3\nprint(1 + 1)"),
    snippet("a script that is not there", "%%script no_such_program\nx"),
    snippet("subprocess", "import subprocess\nsubprocess.run(['echo', 'x'], capture_output=True, text=True).stdout"),
    # Asyncio.
    snippet("await", "import asyncio\nawait asyncio.sleep(0)\n'awaited'"),
    snippet("await a value", "async def two(): return 2\nawait two()"),
    snippet("async for and with", "import contextlib\nasync def gen():\n    for i in range(2): yield i\n@contextlib.asynccontextmanager\nasync def ctx():\n    yield 'c'\nasync with ctx() as c:\n    async for i in gen(): print(c, i)\n[i async for i in gen()]"),
    snippet("an error in a coroutine", "async def fail():\n    raise ValueError('async')\nawait fail()"),
    snippet("a task over two cells", "import asyncio\nasync def later():\n    await asyncio.sleep(0.01)\n    return 'late'\ntask = asyncio.create_task(later())", "await task"),
    snippet("gather", "import asyncio\nawait asyncio.gather(asyncio.sleep(0, 'a'), asyncio.sleep(0, 'b'))"),
    snippet("an interrupt while waiting", "import asyncio, os, signal\nasyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)\nawait asyncio.sleep(5)"),
    snippet("asyncio.run", "import asyncio\nasync def main(): return 'ran'\nmain_now = main()\nasyncio.run(main_now)", "main_now.close()", error=Difference(NO_RUNNING_LOOP, "RuntimeError", ""), results=Difference(NO_RUNNING_LOOP, "[]", "ran"), traceback=Difference(NO_RUNNING_LOOP, "cannot be called", "")),
    # Libraries.
    snippet("an array", "import numpy as np\nnp.arange(6).reshape(2, 3)"),
    snippet("a number of numpy", "import numpy as np\nnp.float64(1.5)"),
    snippet("a data frame", "import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': ['x', None]})"),
    snippet("a long data frame", "import pandas as pd\npd.DataFrame({'a': range(200)})"),
    snippet("a wide data frame", "import pandas as pd\npd.DataFrame({f'column number {i}': range(3) for i in range(30)})"),
    snippet("a frame printed", "import pandas as pd\nprint(pd.DataFrame({f'column number {i}': range(3) for i in range(30)}))"),
    snippet("options of pandas", "import pandas as pd\npd.get_option('display.width'), pd.get_option('display.max_columns'), pd.get_option('display.max_rows')"),
    snippet("an index and a group", "import pandas as pd\ns = pd.Series(range(100), index=pd.date_range('2026-01-01', periods=100))\ndisplay(s.resample('MS').sum())\ns.groupby(s.index.month)"),
    snippet("styled frames", "import pandas as pd\npd.DataFrame({'a': [1]}).style"),
    snippet("a long text in a frame", "import pandas as pd\npd.DataFrame({'a': ['x' * 300]})"),
    snippet("the name that libraries look for", "type(get_ipython()).__name__"),
    snippet("a series", "import pandas as pd\npd.Series([1.5, 2], name='s')"),
    snippet("describe and group", "import pandas as pd\nf = pd.DataFrame({'k': list('aab'), 'v': [1, 2, 3]})\ndisplay(f.describe())\nf.groupby('k').v.sum()"),
    snippet("an error in pandas", "import pandas as pd\npd.DataFrame({'a': [1]})['b']"),
    snippet("a figure", "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.title('t');"),
    snippet("a figure and the result before it", "import matplotlib.pyplot as plt\nplt.plot([1, 2])"),
    snippet("show between prints", "import matplotlib.pyplot as plt\nprint('a')\nplt.plot([1, 2])\nplt.show()\nprint('b')"),
    snippet("two figures", "import matplotlib.pyplot as plt\nplt.figure(); plt.plot([1])\nplt.figure(); plt.plot([2]);"),
    snippet("no figure is left", "import matplotlib.pyplot as plt\nplt.plot([1]);", "plt.get_fignums()"),
    snippet("a figure as the last expression", "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nfig"),
    snippet("a figure that was closed", "import matplotlib.pyplot as plt\nfig = plt.figure()\nplt.close(fig)"),
    snippet("a backend of one's own choice", "import matplotlib\nmatplotlib.use('Agg')\nimport matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()", "matplotlib.use('module://matplotlib_inline.backend_inline')", fresh=True),
    snippet("a picture", "from PIL import Image\nImage.new('RGB', (2, 2), 'red')"),
    snippet("a picture that is saved", "from PIL import Image\nImage.new('RGB', (2, 2)).save('p.png')", results=Difference(SAVED, "[]", "image/png")),
]  # fmt: skip
