"""Which code decides a result: the definitions that a function reaches, found in the source.

A closure goes from definition to definition, across modules. It leaves out what cannot change a row:
annotations, docstrings, log messages, the texts of errors, the fields and validators of parameter
models (their defaults are pinned apart), and modules that say `EXECUTION_ONLY = True`. It stops at
registries, whose members have closures of their own.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from scripts.structure import PACKAGE, modules

ERRORS = "curation.errors"
BASE_MODEL = ("curation.engine.params_base", "StrictModel")
MARK, SAME = "EXECUTION_ONLY", "same_results"
LOGGERS = ("logger", "logging")
VALIDATORS = ("field_validator", "model_validator")

Node = tuple[str, str]
"""A module, and the name of a definition in it."""


@dataclass
class Module:
    """One source file: its definitions, and what the names that it imports stand for."""

    name: str
    tree: ast.Module
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imported: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for statement in _statements(self.tree.body):
            for name in _names(statement):
                self.definitions.setdefault(name, []).append(statement)

    @property
    def execution_only(self) -> bool:
        """Whether the module says that nothing in it decides a row."""
        return MARK in self.definitions


class Code:
    """The source of a package, parsed once.

    Args:
        package: its folder.
        edits: texts that stand in place of those of some files, by their path within the package.
    """

    def __init__(self, package: Path = PACKAGE, edits: Mapping[str, str] | None = None) -> None:
        given = {str(package / path): text for path, text in (edits or {}).items()}
        self.modules = {}
        for name, path in modules(package).items():
            text = given.pop(str(path), None) or path.read_text(encoding="utf-8")
            self.modules[name] = Module(name, ast.parse(text))
        if given:
            raise ValueError(f"no file {', '.join(given)}")
        for module in self.modules.values():
            module.imported = dict(self._bindings(module.tree))
        self._known: dict[Node, tuple[str, list[Node]]] = {}

    def _bindings(self, tree: ast.AST) -> Iterator[tuple[str, tuple[str, str | None]]]:
        """Yield what each imported name stands for: a module, or a definition of one."""
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in self.modules:
                for alias in node.names:
                    member = f"{node.module}.{alias.name}"
                    is_module = member in self.modules
                    name = alias.asname or alias.name
                    yield name, (member, None) if is_module else (node.module, alias.name)

    @cached_property
    def registries(self) -> frozenset[Node]:
        """Definitions that are registries."""
        return frozenset(
            (module.name, name)
            for module in self.modules.values()
            for name, statements in module.definitions.items()
            if any(_makes_registry(statement) for statement in statements)
        )

    def closure(self, roots: Iterable[Node]) -> dict[Node, str]:
        """Return the definitions that some definitions reach, with what of their code counts."""
        found: dict[Node, str] = {}
        waiting = list(roots)
        while waiting:
            node = waiting.pop()
            if node in found or node not in self or self.modules[node[0]].execution_only:
                continue
            if node in self.registries:
                waiting.extend(self._interchangeable(node))
                continue
            if node not in self._known:
                self._known[node] = self._read(node)
            found[node], reached = self._known[node]
            waiting.extend(reached)
        return found

    def _read(self, node: Node) -> tuple[str, list[Node]]:
        """Return what of a definition's code counts, and the definitions that it names."""
        module = self.modules[node[0]]
        statements = module.definitions[node[1]]
        bare = [self._bare(module, statement) for statement in statements]
        # What an argument is said to be is used too, though its name decides nothing.
        sources = (*bare, *map(_annotations, statements))
        reached = [other for source in sources for other in self._reached(module, source)]
        return "\n".join(map(ast.dump, bare)), reached

    def _interchangeable(self, node: Node) -> Iterator[Node]:
        """Yield the definitions of the members of a registry that all give the same results.

        No memo names which of them was used, so the stages must answer for all.
        """
        for statement in self.modules[node[0]].definitions[node[1]]:
            call = getattr(statement, "value", None)
            if isinstance(call, ast.Call) and any(k.arg == SAME for k in call.keywords):
                package, members = call.args[1], call.args[2]
                assert isinstance(package, ast.Constant) and isinstance(members, ast.Dict)
                for key in members.keys:
                    assert isinstance(key, ast.Constant)
                    yield from definitions(self, f"{package.value}.{key.value}")

    def __contains__(self, node: Node) -> bool:
        return node[0] in self.modules and node[1] in self.modules[node[0]].definitions

    def digest(self, roots: Iterable[Node]) -> str:
        """Return a digest of the code that some definitions reach.

        Modules do not count, so that a definition may move.
        """
        parts = sorted(f"{name} {code}" for (_, name), code in self.closure(roots).items())
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def _reached(self, module: Module, statement: ast.AST) -> Iterator[Node]:
        """Yield the definitions that code names."""
        for node in ast.walk(statement):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                where = module.imported.get(node.value.id)
                if where is not None and where[1] is None:
                    yield where[0], node.attr
            elif isinstance(node, ast.Name):
                yield from self._resolved(module, node.id)

    def _resolved(self, module: Module, name: str) -> Iterator[Node]:
        where = module.imported.get(name)
        if where is not None and where[1] is not None:
            yield where[0], where[1]
        elif name in module.definitions:
            yield module.name, name

    def _is_model(self, node: Node) -> bool:
        if node == BASE_MODEL:
            return True
        module = self.modules[node[0]]
        for statement in module.definitions.get(node[1], ()):
            if isinstance(statement, ast.ClassDef):
                bases = (n.id for n in statement.bases if isinstance(n, ast.Name))
                for base in bases:
                    resolved = list(self._resolved(module, base))
                    if any(n in self and self._is_model(n) for n in resolved):
                        return True
        return False

    def _bare(self, module: Module, statement: ast.stmt) -> ast.stmt:
        """Return a copy of a definition without what cannot change a row."""
        model = isinstance(statement, ast.ClassDef) and self._is_model(
            (module.name, statement.name)
        )
        bare: ast.stmt = _Bare(self, module, model).visit(deepcopy(statement))
        return bare


class _Bare(ast.NodeTransformer):
    """Takes away annotations, docstrings, imports, logging, texts of errors, fields of models."""

    def __init__(self, code: Code, module: Module, model: bool) -> None:
        self._code, self._module, self._model = code, module, model

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._block(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        if self._model:
            node.body = [s for s in node.body if _is_method(s)] or [ast.Pass()]
        return self._block(node)

    def _block(self, node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> ast.AST:
        return ast.Pass()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        return ast.Pass()

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            of = call.func.value
            if isinstance(of, ast.Name) and of.id in LOGGERS:
                return ast.Pass()
        if isinstance(call, ast.Constant):
            return ast.Pass()
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call) and self._is_message(node.exc.func):
            node.exc.args, node.exc.keywords = [], []
        node.cause = None
        return self.generic_visit(node)

    def _is_message(self, error: ast.expr) -> bool:
        """Whether what an error is given is text for people: so of Python's errors and of ours."""
        if not isinstance(error, ast.Name):
            return False
        known = getattr(builtins, error.id, None)
        if isinstance(known, type) and issubclass(known, BaseException):
            return True
        return any(module == ERRORS for module, _ in self._code._resolved(self._module, error.id))


def _annotations(statement: ast.stmt) -> ast.AST:
    """Return the annotations within a definition."""
    found: list[ast.expr] = []
    for node in ast.walk(statement):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            found.append(node.annotation)
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            found.append(node.returns)
    return ast.Tuple(found, ast.Load())


def _is_method(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.FunctionDef):
        return False
    return not any(
        isinstance(d, ast.Call) and isinstance(d.func, ast.Name) and d.func.id in VALIDATORS
        for d in statement.decorator_list
    )


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.If | ast.Try):
            yield from _statements(statement.body)
        else:
            yield statement


def _names(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    if isinstance(statement, ast.Assign):
        return [n.id for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return []


def _makes_registry(statement: ast.stmt) -> bool:
    value = getattr(statement, "value", None)
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Name)
        and value.func.id == "Registry"
    )


def definitions(code: Code, module: str) -> list[Node]:
    """Return every definition of a module as a root."""
    return [(module, name) for name in code.modules[module].definitions]


def named(path: str) -> Node:
    """Return the node of an import path `module:function`."""
    module, _, name = path.partition(":")
    return module, name
