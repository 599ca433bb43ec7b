"""Programs in the part of Python that Monty's interpreter is given: what it does not refuse, it must end."""

from tests.hostile.model import ENDS, Program

KIND = "for the interpreter of Monty"

PROGRAMS = (
    Program("a list of texts that grows", KIND, "x = []\nwhile True: x.append('a' * 1000000)", ENDS),
    Program("a dict of lists that grows", KIND, "d = {}\ni = 0\nwhile True:\n    d[i] = [i] * 1000\n    i += 1", ENDS),
    Program("a text that doubles", KIND, "s = 'a'\nwhile True: s = s + s", ENDS),
    Program("a list that doubles", KIND, "x = [0]\nwhile True: x = x + x", ENDS),
    Program("a list in a list in a list", KIND, "x = []\nfor _ in range(10**6): x = [x]\nlen(str(x))", ENDS),
    Program("all permutations", KIND, "import itertools\nlen(list(itertools.permutations(range(12))))", ENDS),
    Program("a product of products", KIND, "import itertools\nlen(list(itertools.product(range(100), repeat=6)))", ENDS),
    Program("powers of powers", KIND, "x = 7\nfor _ in range(100): x = x ** x", ENDS),
    Program("recursion by a lambda", KIND, "f = lambda n: f(n + 1) + f(n + 2)\nf(0)", ENDS),
    Program("a deep comprehension", KIND, "len([a + b + c for a in range(10**4) for b in range(10**4) for c in range(10**4)])", ENDS),
    Program("a sort of what never ends", KIND, "sorted([str(n) * 100 for n in range(10**7)])", ENDS),
    Program("JSON of a deep list", KIND, "import json\nx = []\nfor _ in range(10**5): x = [x]\nlen(json.dumps(x))", ENDS),
    Program("a print that never ends", KIND, "while True: print('x' * 10000)", ENDS),
    Program("a class by its instance", KIND, "type(1).__mro__[1].__subclasses__()", ENDS),
    Program("the globals of a function", KIND, "def f(): return 1\nf.__globals__", ENDS),
)  # fmt: skip
