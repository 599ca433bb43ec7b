"""Time: programs that do not end by themselves, or not soon."""

from tests.hostile.model import CUT, ENDS, RAISED, STOPPED, Program

KIND = "CPU and time"

PROGRAMS = (
    Program("while True", KIND, "while True: pass", STOPPED),
    Program("a loop that swallows everything", KIND, "while True:\n    try:\n        while True: pass\n    except BaseException: pass", STOPPED),
    Program("recursion", KIND, "def f(n): return f(n + 1)\nf(0)", RAISED | STOPPED),
    Program("mutual recursion without the limit", KIND, "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return g()\ndef g(): return f()\nf()", ENDS),
    Program("9**9**9", KIND, "9**9**9", CUT | RAISED),
    Program("factorial of 10**7", KIND, "import math\nmath.factorial(10**7)", STOPPED),
    Program("a huge binomial", KIND, "import math\nmath.comb(10**8, 5 * 10**7)", STOPPED),
    Program("a regular expression that backtracks", KIND, "import re\nre.match(r'(a+)+$$', 'a' * 64 + 'b')", STOPPED),
    Program("a sort with a slow key", KIND, "import time\nsorted(range(10**6), key=lambda x: time.sleep(0.01))", STOPPED),
    Program("the digits of a huge number", KIND, "import sys\nsys.set_int_max_str_digits(0)\nstr(10**(10**7) - 1)", STOPPED),
    Program("a sum over 10**12", KIND, "sum(range(10**12))", STOPPED),
    Program("64 busy threads", KIND, "import threading\ndef spin():\n    while True: pass\nfor _ in range(64): threading.Thread(target=spin).start()", STOPPED),
    Program("a fork per processor that spins", KIND, "import os\nfor _ in range(4): os.fork()\nwhile True: pass", STOPPED),
    Program("a sleep of 30 years", KIND, "import time\ntime.sleep(10**9)", STOPPED),
)  # fmt: skip
