"""Random programs of arithmetic, texts and lists, for the comparison of Monty with CPython. Many of them raise."""

import string
from random import Random

_START = "i, j, k, u, v, a, b, p, q = 1, 2, -3, 0.5, 10.25, 'ab', 'Xy z', [1, 2.5], [3, -1, 2]"
_NUMBERS, _TEXTS, _LISTS = ("i", "j", "k", "u", "v"), ("a", "b"), ("p", "q")
_METHODS = (
    "upper()", "lower()", "title()", "strip()", "swapcase()", "capitalize()", "replace('a', 'zz')", "zfill(9)",
    "center(9, '.')", "ljust(6)", "rjust(6, '-')", "lstrip('a')", "rstrip()", "join(['x', 'y'])",
)  # fmt: skip
_TESTS = (
    "find('a')",
    "count('a')",
    "startswith('A')",
    "isalpha()",
    "isdigit()",
    "islower()",
    "split()",
    "partition(' ')",
)
_FORMATS = (
    "",
    ".2f",
    ".0f",
    "8.3f",
    "e",
    "g",
    ",",
    "+.1f",
    "010.2f",
    "<12",
    ">12",
    "^12",
    "%",
    "d",
    "x",
    ".3g",
    ",.2f",
)


class Grammar:
    """Draws from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def program(self) -> str:
        """Return a program whose last line is an expression."""
        lines = [_START, *(self.statement() for _ in range(self.random.randint(1, 7)))]
        return "\n".join([*lines, self.one(self.number, self.text, self.list, lambda _: "(i, u, a, p)")])

    def one(self, *makers, depth: int = 2) -> str:
        return self.random.choice(makers)(depth)

    def statement(self) -> str:
        pick = self.random.choice
        form = self.random.randrange(8)
        if form < 2:
            return f"{pick(_NUMBERS)} {pick(('=', '+=', '-=', '*='))} {self.number(2)}"
        if form == 2:
            return f"{pick(_TEXTS)} = {self.text(2)}"
        if form == 3:
            return f"{pick(_LISTS)} = {self.list(2)}"
        if form == 4:
            return f"{pick(_LISTS)}.append({self.number(1)})"
        if form == 5:
            return f"if {self.number(1)} {pick(('<', '<=', '==', '!='))} {self.number(1)}:\n    print({self.text(1)})"
        if form == 6:
            return f"for k in {self.list(1)}:\n    v = v + {self.number(1)}\n    print(k, v)"
        return f"print({self.one(self.number, self.text, self.list)})"

    def number(self, depth: int) -> str:
        pick = self.random.choice
        form = self.random.randrange(12) if depth > 0 else self.random.randrange(4)
        if form < 2:
            return pick(_NUMBERS)
        if form < 4:
            return f"({self.literal()})"
        inner = self.number(depth - 1)
        if form < 8:
            return f"({inner} {pick(('+', '-', '*', '/', '//', '%'))} {self.number(depth - 1)})"
        return pick((
            f"{pick(('abs', 'int', 'float', 'round', 'bool', '-'))}({inner})",
            f"round({inner}, {self.random.randint(0, 5)})",
            f"({inner} ** {self.random.randint(-3, 5)})",
            f"({inner} if {self.number(depth - 1)} < {self.number(0)} else {self.number(0)})",
            f"{pick(('len', 'sum', 'max', 'min'))}({self.list(depth - 1)})",
            f"len({self.text(depth - 1)})",
            f"math.{pick(('sqrt', 'floor', 'ceil', 'log', 'exp', 'sin', 'atan'))}({inner})",
        ))  # fmt: skip

    def literal(self) -> str:
        draw = self.random
        return draw.choice((
            str(draw.randint(-20, 20)),
            str(draw.randint(-(10**20), 10**20)),
            repr(round(draw.uniform(-1000, 1000), draw.randint(0, 4))),
            repr(draw.uniform(-1e6, 1e6)),
            repr(draw.lognormvariate(0, 20)),
        ))  # fmt: skip

    def text(self, depth: int) -> str:
        pick = self.random.choice
        form = self.random.randrange(10) if depth > 0 else self.random.randrange(3)
        if form == 0:
            return repr("".join(self.random.choices(string.printable[:95], k=self.random.randint(0, 8))))
        if form < 3:
            return pick(_TEXTS)
        return (
            lambda: f"({self.text(depth - 1)} + {self.text(depth - 1)})",
            lambda: f"{self.text(depth - 1)}.{pick(_METHODS)}",
            lambda: f"{self.text(depth - 1)}[{self.random.randint(-4, 4)}:{self.random.randint(-4, 4)}]",
            lambda: f"format({self.number(1)}, {pick(_FORMATS)!r})",
            lambda: f"('%s|%.2f' % ({self.number(1)}, {self.number(1)}))",
            lambda: f"str({self.one(self.number, self.list, depth=depth - 1)})",
            lambda: f"repr({self.text(depth - 1)}.{pick(_TESTS)})",
        )[form - 3]()

    def list(self, depth: int) -> str:
        form = self.random.randrange(11) if depth > 0 else self.random.randrange(3)
        if form == 0:
            return f"[{', '.join(self.literal() for _ in range(self.random.randint(0, 5)))}]"
        if form < 3:
            return self.random.choice(_LISTS)
        inner = self.list(depth - 1)
        return (
            lambda: f"({inner} + {self.list(depth - 1)})",
            lambda: f"sorted({inner})",
            lambda: f"{inner}[{self.random.randint(-3, 3)}:]",
            lambda: f"[x for x in {inner} if x < {self.number(1)}]",
            lambda: f"[x0 * 2 for x0, y0 in zip({inner}, {inner})]",
            lambda: f"list(range({self.random.randint(0, 6)}))",
            lambda: f"list(map(abs, {inner}))",
            lambda: f"list({{x: 0 for x in {inner}}})",
        )[form - 3]()


def program(seed: int) -> str:
    """Return the program of a seed."""
    code = Grammar(seed).program()
    return f"import math\n{code}" if "math." in code else code
