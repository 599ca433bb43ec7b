"""A parsed program with what the checks ask of it: parents, names bound and read, where imports come from. Pure."""

import ast


class NotSupported(Exception):  # noqa: N818 - the status that it becomes
    """Monty cannot run this, or is not known to answer as CPython does; nothing has happened."""


class Tree:
    """One program. Names are looked at without regard to scopes, which errs on the side of refusing."""

    def __init__(self, module: ast.Module) -> None:
        self.module = module
        self.nodes = list(ast.walk(module))
        self.parent: dict[ast.AST, ast.AST] = {
            child: node for node in self.nodes for child in ast.iter_child_nodes(node)
        }
        self.loaded = {node.id for node in self.nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        self.modules: dict[str, str] = {}
        """Names that stand for a module."""
        self.origin: dict[str, str] = {}
        """The module that a name was imported from, or stands for."""
        self.original: dict[str, str] = {}
        """What an imported name is called in its module."""
        self.bound_at: dict[str, int] = {}
        """Line of the first import or definition of a name."""
        self.assigned: set[str] = set()
        """Names that the program binds other than by import."""
        for node in self.nodes:
            self._bind(node)
        if self.assigned & self.origin.keys():
            raise NotSupported("an imported name is bound again")
        self.bound = self.assigned | self.origin.keys()

    def called(self, node: ast.Call) -> str:
        """Return the name of a built-in or imported function, or of a method; empty for functions of the program."""
        function = node.func
        if isinstance(function, ast.Attribute):
            return function.attr
        if not isinstance(function, ast.Name) or function.id in self.assigned:
            return ""
        return self.original.get(function.id, function.id)

    def _bind(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self.modules[alias.asname or alias.name] = alias.name
                self._imported(alias.asname or alias.name, alias.name, "", node.lineno)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                self._imported(alias.asname or alias.name, node.module or "", alias.name, node.lineno)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            self.assigned.add(node.id)
        elif isinstance(node, ast.arg):
            self.assigned.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self.assigned.add(node.name)

    def _imported(self, name: str, module: str, original: str, line: int) -> None:
        if self.origin.setdefault(name, module) != module or self.original.setdefault(name, original) != original:
            raise NotSupported("an imported name is bound again")
        self.bound_at[name] = min(line, self.bound_at.get(name, line))


def roots(node: ast.AST) -> set[str]:
    """Return every name below a node."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
