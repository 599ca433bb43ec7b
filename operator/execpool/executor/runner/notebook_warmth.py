"""One cell of every kind, for a process that is about to be forked: what was imported and cached here is nobody's first use.

No cell starts a thread or a process or writes a file. Libraries are exercised only when they are there already, since what
is imported before the fork is decided elsewhere.
"""

import sys
from collections.abc import Iterator

_ALWAYS = (
    "1 + 1",
    "x = [1, 'a', {'b': (2.5, None)}]\nx",
    "print('printed')",
    "import asyncio\nawait asyncio.sleep(0)\n'awaited'",
    "def inner(number):\n    return 1 / number\n\ndef outer():\n    return inner(0)\n\nouter()",
    "try:\n    {}['missing']\nexcept KeyError as error:\n    raise ValueError('wrong') from error",
    "1 +",
    "display({'a': 1}, 'two')\nfrom IPython.display import HTML, Markdown, Image\ndisplay(HTML('<b>x</b>'))\nMarkdown('*x*')",
    "%timeit -n1 -r1 pass",
    "%time 1",
    "%%capture captured\nprint('kept')",
    "len?",
    "%env HOME",
    "import warnings\nwarnings.warn('careful')",
    "import sys\nsys.exit(3)",
    "class Shown:\n    def _repr_html_(self): return '<b>x</b>'\n    def _repr_png_(self): return b'x'\nShown()",
    "get_ipython().find_cell_magic('bash'), get_ipython().find_line_magic('pip'), get_ipython().find_cell_magic('writefile')",
)
_WITH = {
    "numpy": "import numpy\nnumpy.arange(6).reshape(2, 3)",
    "pandas": (
        "import pandas\nframe = pandas.DataFrame({'a': [1.5, None], 'b': ['x', 'y'], 'c': pandas.to_datetime(['2026-01-01'] * 2)})\n"
        "display(frame, frame.describe(), frame.groupby('b').sum())\nframe['a']"
    ),
    "matplotlib": (
        "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\naxes.plot([1, 2], [3, 4], label='x')\n"
        "axes.bar([1], [2])\naxes.set_title('t')\naxes.legend()\nplt.show()"
    ),
}


_TOUCH = "1 + 1"
_TOUCH_DEEPLY = "import pandas\npandas.DataFrame({'a': [1, 1, 2], 'b': [1, 2, 3]}).groupby('a').sum()"


def first_uses(*, deeply: bool) -> Iterator[str]:
    """Return the cells to run once more in each fork before its first one."""
    if not deeply:
        yield _TOUCH
    elif "pandas" in sys.modules:
        yield _TOUCH_DEEPLY


def cells() -> Iterator[str]:
    """Return the cells to run."""
    yield from _ALWAYS
    for module, cell in _WITH.items():
        if module in sys.modules:
            yield cell
