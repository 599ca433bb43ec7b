"""Decides, before anything runs, whether Monty would give CPython's answer, and makes the source that Monty gets. Pure.

    parse (CPython's parser) -> names and imports -> syntax -> sets -> laziness -> source for Monty

Every step refuses what is not known to be equal (`rules`): a construct is allowed because it was compared, not because
nobody complained. What cannot be seen here shows at run time: an exception of any kind ends a run as NotSupported too
(`engine`), since a program that lacks something in Monty and one that is wrong look the same.

The source for Monty is the program with two changes: imports of which nothing is used become `pass`, and the value of a
trailing expression is returned together with Monty's own repr of it, so that a type that Monty converts is noticed.
"""

import ast
import builtins
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from execpool.executor.monty import laziness, rules, sets
from execpool.executor.monty.prelude import prelude
from execpool.executor.monty.tree import NotSupported, Tree

MAX_CODE = 64 * 1024
"""Longer programs are for CPython: parsing them would take longer than running most."""

_COMPENSATED_SUM = sys.version_info >= (3, 12)
_VALUE = "_execpool_value"

_ALLOWED = (
    ast.Module, ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.FunctionDef, ast.Return, ast.If, ast.For,
    ast.While, ast.Break, ast.Continue, ast.Pass, ast.Import, ast.ImportFrom, ast.alias, ast.Assert, ast.Global,
    ast.Nonlocal, ast.Raise, ast.Try, ast.ExceptHandler, ast.Lambda, ast.arguments, ast.arg, ast.keyword, ast.Name,
    ast.Constant, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.IfExp, ast.Attribute, ast.Subscript,
    ast.Slice, ast.Starred, ast.NamedExpr, ast.JoinedStr, ast.FormattedValue, ast.List, ast.Tuple, ast.Dict, ast.Set,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.comprehension, ast.operator, ast.unaryop, ast.boolop,
    ast.cmpop, ast.expr_context,
)  # fmt: skip


@dataclass(frozen=True)
class Program:
    """What Monty is to run."""

    source: str
    has_result: bool
    """True when the last statement is an expression whose value is shown."""


def prepare(code: str) -> Program:
    """Return the source for Monty.

    Raises:
        NotSupported: Monty cannot run it, or is not known to answer as CPython does.
    """
    if len(code) > MAX_CODE:
        raise NotSupported(f"it is longer than {MAX_CODE} characters")
    try:
        return _prepare(code)
    except (RecursionError, MemoryError) as error:
        raise NotSupported("it is nested too deeply") from error


def _prepare(code: str) -> Program:
    tree = Tree(_parse(code))
    spare = _imports(tree)
    for node in tree.nodes:
        if not isinstance(node, _ALLOWED):
            raise NotSupported(f"{type(node).__name__} is not supported")
        check = _CHECKS.get(type(node))
        if check is not None:
            check(tree, node)
    sets.check(tree)
    laziness.check(tree)
    return _source(code, tree, spare)


def _parse(code: str) -> ast.Module:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError) as error:
        # CPython reports it with its own words.
        raise NotSupported("it does not parse") from error


def _imports(tree: Tree) -> list[ast.stmt]:
    """Check every import; return those of which nothing is used."""
    spare: list[ast.stmt] = []
    for node in tree.nodes:
        if isinstance(node, ast.ImportFrom):
            known = rules.MODULES.get(node.module or "", frozenset())
            if node.level or not {alias.name for alias in node.names} <= known:
                raise NotSupported(f"this import from {node.module} is not supported")
        elif isinstance(node, ast.Import):
            modules = {alias.name for alias in node.names}
            if modules <= rules.HARMLESS and not tree.loaded & {alias.asname or alias.name for alias in node.names}:
                spare.append(node)
            elif not modules <= rules.MODULES.keys():
                raise NotSupported(f"import of {', '.join(sorted(modules))} is not supported")
    return spare


def _name(tree: Tree, node: ast.Name) -> None:
    if node.id.startswith("_execpool"):
        raise NotSupported("a name of ours")
    if isinstance(node.ctx, ast.Load) and node.id not in tree.bound and node.id not in rules.BUILTINS:
        known = hasattr(builtins, node.id)
        raise NotSupported(f"{node.id} is not supported" if known else "it uses a name that it does not define")


def _attribute(tree: Tree, node: ast.Attribute) -> None:
    if not isinstance(node.ctx, ast.Load):
        raise NotSupported("attributes cannot be set")
    if isinstance(node.value, ast.Name) and node.value.id in tree.modules:
        module = tree.modules[node.value.id]
        if node.attr not in rules.MODULES.get(module, ()):
            raise NotSupported(f"{module}.{node.attr} is not supported")
    elif node.attr not in rules.METHODS and not _of_imported_class(tree, node):
        raise NotSupported(f"method {node.attr} is not supported")


def _of_imported_class(tree: Tree, node: ast.Attribute) -> bool:
    """`date.today()` and the like: they differ from run to run, and their form is the same."""
    return node.attr in {"today", "now"} and "datetime" in tree.modules.values()


def _call(tree: Tree, node: ast.Call) -> None:
    name = tree.called(node)
    keywords = {keyword.arg for keyword in node.keywords}
    if name == "print" and not keywords <= {"sep", "end", "flush"}:
        raise NotSupported("print to a file is not supported")
    if name == "type" and len(node.args) != 1:
        raise NotSupported("making classes is not supported")


def _compare(_tree: Tree, node: ast.Compare) -> None:
    for operator, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(operator, ast.Is | ast.IsNot) and not (
            isinstance(right, ast.Constant) and (right.value is None or isinstance(right.value, bool))
        ):
            raise NotSupported("identity of objects is not supported")


def _handler(_tree: Tree, node: ast.ExceptHandler) -> None:
    named = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    if node.name or not all(isinstance(kind, ast.Name) and kind.id in rules.CAUGHT for kind in named):
        raise NotSupported("handling this exception is not supported")


def _dict(_tree: Tree, node: ast.Dict) -> None:
    """Equal keys of different types: CPython keeps the first, Monty the last."""
    kinds = {type(key.value) for key in node.keys if isinstance(key, ast.Constant)}
    if len(kinds & {bool, int, float, complex}) > 1:
        raise NotSupported("keys of several numeric types are not supported")


def _function(tree: Tree, node: ast.FunctionDef) -> None:
    if node.decorator_list:
        raise NotSupported("decorators are not supported")
    if node.returns is not None:
        _annotation(tree, node.returns)


def _argument(tree: Tree, node: ast.arg) -> None:
    if node.annotation is not None:
        _annotation(tree, node.annotation)


def _annotated(tree: Tree, node: ast.AnnAssign) -> None:
    if not isinstance(node.target, ast.Name):
        raise NotSupported("this annotation is not supported")
    _annotation(tree, node.annotation)


def _annotation(tree: Tree, node: ast.expr) -> None:
    """Monty does not evaluate annotations, CPython does: only what cannot fail is allowed."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            early = tree.bound_at.get(part.id, sys.maxsize) < part.lineno
            if not early and not (isinstance(getattr(builtins, part.id, None), type) and part.id not in tree.bound):
                raise NotSupported("this annotation is not supported")
        elif isinstance(part, ast.Subscript):
            base = part.value
            generic = isinstance(base, ast.Name) and base.id in {"list", "dict", "tuple", "set", "frozenset", "type"}
            if not generic and not (isinstance(base, ast.Name | ast.Attribute) and _is_typing(tree, base)):
                raise NotSupported("this annotation is not supported")
        elif not isinstance(part, ast.Constant | ast.Attribute | ast.Tuple | ast.List | ast.expr_context):
            raise NotSupported("this annotation is not supported")


def _is_typing(tree: Tree, base: ast.Name | ast.Attribute) -> bool:
    name = base.value.id if isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name) else ""
    name = base.id if isinstance(base, ast.Name) else name
    return tree.origin.get(name) == "typing"


_CHECKS: dict[type, Callable[[Tree, Any], None]] = {
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.Call: _call,
    ast.Compare: _compare,
    ast.ExceptHandler: _handler,
    ast.Dict: _dict,
    ast.FunctionDef: _function,
    ast.arg: _argument,
    ast.AnnAssign: _annotated,
}


def _source(code: str, tree: Tree, spare: list[ast.stmt]) -> Program:
    last = tree.module.body[-1] if tree.module.body else None
    shown = isinstance(last, ast.Expr) and not code.rstrip().endswith(";")
    if isinstance(last, ast.Expr) and shown:
        value = ast.Assign([ast.Name(_VALUE, ast.Store())], last.value)
        tree.module.body[-1:] = [value, *ast.parse(f"({_VALUE}, repr({_VALUE}))").body]
    for statement in spare:
        _replace(tree.parent[statement], statement)
    try:
        text = ast.unparse(ast.fix_missing_locations(tree.module))
    except ValueError as error:
        raise NotSupported("it cannot be rewritten") from error
    return Program(prelude(tree.loaded, compensated=_COMPENSATED_SUM) + text, shown)


def _replace(parent: ast.AST, statement: ast.stmt) -> None:
    """Put `pass` in the place of a statement."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(parent, name, None)
        if isinstance(block, list) and statement in block:
            block[block.index(statement)] = ast.Pass()
