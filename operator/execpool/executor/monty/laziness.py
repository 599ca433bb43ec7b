"""Lets generator expressions, `map`, `zip` and the like pass where it cannot be seen that Monty makes lists of them. Pure.

CPython makes their elements one by one when asked, once; Monty makes a list at once. Allowed is what consumes them on
the spot. If the consumer may stop early, or does something between two elements, what they call must be pure; and what
they look at must not be changed meanwhile.
"""

import ast

from execpool.executor.monty import rules
from execpool.executor.monty.tree import NotSupported, Tree, roots

_STEPWISE = frozenset({"all", "any", "max", "min", "sorted", "Counter", "reduce", *rules.LAZY} - {"reversed"})
"""Consumers that may stop early, or do something between two elements."""


def check(tree: Tree) -> None:
    """Raise NotSupported where laziness may be seen."""
    mutated = _mutated(tree.nodes)
    for node in tree.nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and _is_lazy_name(tree, node):
            parent = tree.parent[node]
            if not (isinstance(parent, ast.Call) and parent.func is node):
                raise NotSupported(f"{node.id} as a value is not supported")
        if isinstance(node, ast.GeneratorExp) or (isinstance(node, ast.Call) and _is_lazy_call(tree, node)):
            _check_one(tree, node, mutated)


def _is_lazy_name(tree: Tree, node: ast.Name) -> bool:
    return node.id not in tree.assigned and tree.original.get(node.id, node.id) in rules.LAZY


def _is_lazy_call(tree: Tree, node: ast.Call) -> bool:
    if isinstance(node.func, ast.Attribute):
        return isinstance(node.func.value, ast.Name) and tree.modules.get(node.func.value.id) == "itertools"
    return isinstance(node.func, ast.Name) and _is_lazy_name(tree, node.func)


def _check_one(tree: Tree, node: ast.GeneratorExp | ast.Call, mutated: set[str]) -> None:
    stepwise, during = _consumption(tree, node)
    own = _own_code(node)
    if stepwise and not all(_is_pure(tree, part) for part in own):
        raise NotSupported("a lazy expression with effects is not supported")
    watched = {name for part in _looked_at(node) for name in roots(part)}
    for part in [*during, *own]:
        inside = list(ast.walk(part))
        foreign = any(isinstance(call, ast.Call) and not tree.called(call) for call in inside)
        if watched & _mutated(inside) or (foreign and watched & (mutated | _passed(tree, inside))):
            raise NotSupported("changing what is being looped over is not supported")


def _consumption(tree: Tree, node: ast.expr) -> tuple[bool, list[ast.AST]]:
    """Return whether the consumer works step by step, and the code that runs between two steps."""
    parent = tree.parent[node]
    match parent:
        case ast.Starred():
            return False, []
        case ast.Call() if parent.func is not node and isinstance(tree.parent[node], ast.Call):
            name = tree.called(parent)
            if name in rules.CONSUMERS - {"len"} and not parent.keywords:
                return False, []
            if name in _STEPWISE:
                return True, [keyword.value for keyword in parent.keywords]
        case ast.For(iter=iterated) if iterated is node:
            return True, list(parent.body)
        case ast.comprehension(iter=iterated) if iterated is node:
            whole = tree.parent[parent]
            return True, [child for child in ast.iter_child_nodes(whole) if child is not parent]
        case ast.Compare(ops=[ast.In() | ast.NotIn()], left=left) if left is not node:
            return True, []
        case ast.Assign(targets=[ast.Tuple() | ast.List()]):
            return True, []
    raise NotSupported("keeping a lazy expression is not supported")


def _looked_at(node: ast.GeneratorExp | ast.Call) -> list[ast.expr]:
    """Return what the elements come from."""
    if isinstance(node, ast.GeneratorExp):
        return [generator.iter for generator in node.generators]
    return node.args[1:] if _last_name(node.func) in {"map", "filter"} else node.args


def _own_code(node: ast.GeneratorExp | ast.Call) -> list[ast.AST]:
    """Return what runs for every element."""
    if isinstance(node, ast.GeneratorExp):
        first = node.generators[0]
        rest = [child for generator in node.generators[1:] for child in (generator.iter, *generator.ifs)]
        return [node.elt, *first.ifs, *rest]
    function = _last_name(node.func)
    return [*node.args[:1]] if function in {"map", "filter"} else [*node.args[1:]] if function == "accumulate" else []


def _is_pure(tree: Tree, node: ast.AST) -> bool:
    """True when evaluating, or for a function calling, this has no effect and calls nothing of the program's."""
    if isinstance(node, ast.Name):
        return tree.original.get(node.id, node.id) in rules.PURE or not _is_function_argument(tree, node)
    for part in ast.walk(node):
        if isinstance(part, ast.NamedExpr):
            return False
        if isinstance(part, ast.Call):
            name = tree.called(part)
            allowed = rules.PURE_METHODS | rules.PURE if isinstance(part.func, ast.Attribute) else rules.PURE
            if name not in allowed:
                return False
    return True


def _is_function_argument(tree: Tree, node: ast.Name) -> bool:
    """True for the function that `map`, `filter` or `accumulate` calls."""
    parent = tree.parent[node]
    return isinstance(parent, ast.Call) and parent.func is not node


def _mutated(nodes: list[ast.AST]) -> set[str]:
    """Return names of what is changed in place."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in rules.MUTATORS:
            found |= roots(node.func.value)
        elif isinstance(node, ast.Call) and _last_name(node.func) in {"shuffle", "insort"}:
            found |= {name for argument in node.args for name in roots(argument)}
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            found |= roots(node.value)
        elif isinstance(node, ast.AugAssign):
            found |= roots(node.target)
    return found


def _last_name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _passed(tree: Tree, nodes: list[ast.AST]) -> set[str]:
    """Return names handed to functions of the program."""
    calls = [node for node in nodes if isinstance(node, ast.Call) and not tree.called(node)]
    return {name for call in calls for argument in call.args for name in roots(argument)}
