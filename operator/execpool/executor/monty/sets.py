"""Lets sets pass only where their order cannot be seen: CPython orders by hash, Monty by insertion. Pure.

A set may be made, kept in a variable that holds nothing but sets, changed, compared, asked for membership, measured and
sorted (without a key, whose ties would show the order). Everything else, printing and looping above all, is refused.
"""

import ast

from execpool.executor.monty import rules
from execpool.executor.monty.tree import NotSupported, Tree

_ALGEBRA = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.Sub)


def check(tree: Tree) -> None:
    """Raise NotSupported where the order of a set may be seen."""
    names = _set_names(tree)
    for node in tree.nodes:
        if isinstance(node, ast.Name) and node.id in {"set", "frozenset"} and node.id not in tree.bound:
            if not _is_harmless_mention(tree, node):
                raise NotSupported("this use of sets is not supported")
        elif isinstance(node, ast.expr) and _makes_set(tree, node, names) and not _is_hidden(tree, node, names):
            raise NotSupported("a use of sets that may show their order is not supported")


def _set_names(tree: Tree) -> set[str]:
    """Return the variables that hold sets, as far as assignments say."""
    names: set[str] = set()
    while True:
        more = {
            target.id
            for node in tree.nodes
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value is not None
            if _makes_set(tree, node.value, names)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        if more <= names:
            return names
        names |= more


def _makes_set(tree: Tree, node: ast.expr, names: set[str]) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Name(id=name, ctx=ast.Load()):
            return name in names
        case ast.Call(func=ast.Name(id="set" | "frozenset" as name)):
            return name not in tree.bound
        case ast.Call(func=ast.Attribute(attr=attribute, value=value)):
            return attribute in rules.SET_MAKERS or (attribute == "copy" and _makes_set(tree, value, names))
        case ast.BinOp(left=left, op=operator, right=right) if isinstance(operator, _ALGEBRA):
            return any(_makes_set(tree, side, names) or _is_view(side) for side in (left, right))
        case ast.IfExp(body=body, orelse=other):
            return _makes_set(tree, body, names) or _makes_set(tree, other, names)
        case ast.BoolOp(values=values):
            return any(_makes_set(tree, value, names) for value in values)
    return False


def _is_view(node: ast.expr) -> bool:
    """True for `d.keys()` and `d.items()`, whose algebra makes sets."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in {"keys", "items"}


def _is_hidden(tree: Tree, node: ast.expr, names: set[str]) -> bool:
    """True when what becomes of a set here does not depend on its order."""
    parent = tree.parent[node]
    match parent:
        case ast.Call(func=function) if function is not node:
            by_name = isinstance(function, ast.Name) and tree.called(parent) in rules.SET_CONSUMERS
            by_method = isinstance(function, ast.Attribute) and function.attr in rules.SET_METHODS
            return (by_name and not parent.keywords) or by_method
        case ast.Attribute(attr=attribute):
            return attribute in rules.SET_METHODS or attribute == "copy"
        case ast.Compare(left=left, ops=operators, comparators=comparators):
            # On the left of `in` it would be looked for as an element, which is fine as well.
            return len(operators) == 1 and node in (left, *comparators)
        case ast.BinOp() | ast.IfExp() | ast.BoolOp():
            return _makes_set(tree, parent, names) or (isinstance(parent, ast.IfExp) and parent.test is node)
        case ast.Assign(targets=targets):
            return len(targets) == 1 and isinstance(targets[0], ast.Name)
        case ast.AnnAssign(target=target):
            return isinstance(target, ast.Name)
        case ast.AugAssign(target=target, value=value):
            return isinstance(target, ast.Name) and target.id in names and value is node
        case ast.If() | ast.While():
            return True
        case ast.UnaryOp(op=ast.Not()):
            return True
        case ast.Expr():
            return parent is not tree.module.body[-1]
    return False


def _is_harmless_mention(tree: Tree, node: ast.Name) -> bool:
    """True for `set(...)` itself, in annotations and as the type that `isinstance` asks for."""
    current: ast.AST = node
    while True:
        parent = tree.parent[current]
        match parent:
            case ast.Call(func=function):
                return function is node or (tree.called(parent) == "isinstance" and parent.args[0] is not current)
            case ast.arg() | ast.FunctionDef(returns=_):
                return True
            case ast.AnnAssign(annotation=annotation):
                return annotation is current
            case ast.Subscript() | ast.Tuple():
                current = parent
            case _:
                return False
