"""What Monty is known to answer as CPython does: tables that `program` checks against, and nothing else.

An allow-list, grown by measurement: a name is here because tests/unit/test_monty_program.py or
tests/component/test_monty_equality.py compared it with CPython. Left out on purpose, each seen to differ in Monty 1.4:

- `math.gamma`, `lgamma`, `erf`, `erfc`, `atanh`, `cbrt`: the last digit differs;
- `re`, `decimal`, `time`, `os`, `sys`: another engine, or the world outside;
- `next`, `iter`: generators, `map`, `zip` and the like are lists there, made at once;
- `hash`, `id`, `object`: differ from process to process in CPython too.
"""

MODULES: dict[str, frozenset[str]] = {
    "math": frozenset({
        "pi", "e", "tau", "inf", "nan", "ceil", "floor", "trunc", "fabs", "factorial", "comb", "perm", "gcd", "lcm",
        "sqrt", "isqrt", "exp", "expm1", "log", "log2", "log10", "log1p", "pow", "sin", "cos", "tan", "asin", "acos",
        "atan", "atan2", "sinh", "cosh", "tanh", "degrees", "radians", "hypot", "dist", "fmod", "modf", "copysign",
        "isclose", "isfinite", "isinf", "isnan", "prod", "fsum",
    }),
    "typing": frozenset({
        "Any", "Callable", "Dict", "Iterable", "Iterator", "List", "Optional", "Sequence", "Set", "Tuple", "Union",
    }),
    "itertools": frozenset({
        "accumulate", "chain", "combinations", "combinations_with_replacement", "pairwise", "permutations", "product",
        "repeat", "zip_longest",
    }),
    "functools": frozenset({"reduce"}),
    "collections": frozenset({"Counter", "defaultdict"}),
    "datetime": frozenset({"date", "datetime", "timedelta"}),
    "json": frozenset({"dumps", "loads"}),
    "random": frozenset({"seed", "random", "randint", "choice", "sample", "shuffle", "uniform"}),
    "bisect": frozenset({"bisect", "bisect_left", "bisect_right", "insort"}),
    "copy": frozenset({"copy", "deepcopy"}),
}  # fmt: skip

HARMLESS = frozenset({"numpy", "pandas", "statistics", "fractions", "decimal", "re", "heapq", "string", "operator", "os",
                      "sys", "time", *MODULES})  # fmt: skip
"""Modules whose import does nothing that a program could notice: left out when nothing of them is used."""

BUILTINS = frozenset({
    "abs", "all", "any", "bin", "bool", "chr", "complex", "dict", "divmod", "enumerate", "filter", "float", "format",
    "frozenset", "hex", "int", "isinstance", "len", "list", "map", "max", "min", "oct", "ord", "pow", "print", "range",
    "repr", "reversed", "round", "set", "sorted", "str", "sum", "tuple", "type", "zip", "__name__",
    "AssertionError", "ArithmeticError", "AttributeError", "Exception", "IndexError", "KeyError", "NotImplementedError",
    "OverflowError", "RuntimeError", "TypeError", "ValueError", "ZeroDivisionError",
})  # fmt: skip

METHODS = frozenset({
    # str
    "capitalize", "center", "count", "endswith", "find", "format", "index", "isalnum", "isalpha", "isdigit", "islower",
    "isspace", "isupper", "join", "ljust", "lower", "lstrip", "partition", "replace", "rfind", "rindex", "rjust",
    "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper",
    "zfill",
    # list, dict, set
    "append", "clear", "copy", "extend", "insert", "pop", "remove", "reverse", "sort", "get", "items", "keys",
    "setdefault", "update", "values", "add", "difference", "discard", "intersection", "isdisjoint", "issubset",
    "issuperset", "most_common", "symmetric_difference", "union",
    # datetime
    "day", "days", "hour", "isoformat", "isoweekday", "minute", "month", "second", "seconds", "total_seconds",
    "weekday", "year",
    # complex
    "conjugate", "imag", "real",
})  # fmt: skip

CAUGHT = frozenset({"IndexError", "KeyError", "ZeroDivisionError"})
"""Exceptions that a program may handle. Others may be Monty's word for something it lacks, which no handler may hide."""

LAZY = frozenset({"enumerate", "filter", "map", "reversed", "zip", *MODULES["itertools"]})
"""Lazy in CPython, lists in Monty: no difference while what they look at stays as it is and their functions are pure."""
CONSUMERS = frozenset({"dict", "frozenset", "len", "list", "set", "sorted", "sum", "tuple", "join", "fsum", "prod",
                       "extend"})  # fmt: skip
"""Take all of an iterator before they do anything else."""
PURE = BUILTINS - {"print", "map", "filter", "sum", "sorted", "min", "max"} | MODULES["math"]
"""Functions without an effect that call nothing of the program's."""
PURE_METHODS = METHODS - {
    "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort", "setdefault", "update", "add", "discard",
}  # fmt: skip
MUTATORS = METHODS - PURE_METHODS

SET_MAKERS = frozenset({"difference", "intersection", "symmetric_difference", "union"})
SET_CONSUMERS = frozenset({"bool", "frozenset", "len", "max", "min", "set", "sorted"})
"""Functions that make nothing of the order of a set, which differs: Monty keeps insertion order, CPython hashes."""
SET_METHODS = frozenset({
    "add", "clear", "discard", "isdisjoint", "issubset", "issuperset", "remove", "update", *SET_MAKERS,
})  # fmt: skip
