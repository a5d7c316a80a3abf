"""Which code decides a result: the definitions that a function reaches, found in the source.

A closure goes from definition to definition, across modules. It leaves out what cannot change a row:
annotations, docstrings, log messages, the texts of errors, the fields and validators of parameter
models (their defaults are pinned apart), and modules that say `EXECUTION_ONLY = True`. It stops at
registries, whose members have closures of their own.

What counts is written as text by `Significant`, not by `ast.dump`, whose format differs between
versions of Python: pins are the same under all of them.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

from scripts.structure import PACKAGE, modules

ERRORS = "curation.errors"
BASE_MODEL = ("curation.engine.params_base", "StrictModel")
MARK, SAME = "EXECUTION_ONLY", "same_results"
LOGGERS = ("logger", "logging")
VALIDATORS = ("field_validator", "model_validator")

Node = tuple[str, str]
"""A module, and the name of a definition in it."""


class Definition(NamedTuple):
    """What of a definition's code counts, and the definitions that it names."""

    code: str
    reached: tuple[Node, ...]


class Module:
    """One source file: its definitions, and what the names that it imports stand for.

    Args:
        name: its dotted name.
        text: its source.
        known: the dotted names of all modules of the package.
    """

    def __init__(self, name: str, text: str, known: frozenset[str]) -> None:
        self.name = name
        tree = ast.parse(text)
        self.definitions: dict[str, list[ast.stmt]] = {}
        for statement in _statements(tree.body):
            for defined in _names(statement):
                self.definitions.setdefault(defined, []).append(statement)
        self._imported = dict(_imported_names(tree, known))
        self._read: dict[tuple[str, bool], Definition] = {}

    @property
    def execution_only(self) -> bool:
        """Whether the module says that nothing in it decides a row."""
        return MARK in self.definitions

    def read(self, name: str, model: bool) -> Definition:
        """Return what counts of a definition.

        Args:
            name: the name of the definition.
            model: whether it is a parameter model, whose fields and validators do not count.
        """
        if (name, model) not in self._read:
            texts, reached = [], dict[Node, None]()
            for statement in self.definitions[name]:
                significant = Significant(self, model)
                texts.append(significant.text(statement))
                # An argument's annotation is used too, though the name of the argument decides nothing.
                for node in (*significant.visited, *_annotation_nodes(statement)):
                    reached.update(dict.fromkeys(self._reached(node)))
            self._read[name, model] = Definition("\n".join(texts), tuple(reached))
        return self._read[name, model]

    def _reached(self, node: ast.AST) -> Iterator[Node]:
        """Yield the definitions that a node of the source names, its own children left out."""
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            where = self._imported.get(node.value.id)
            if where is not None and where[1] is None:
                yield where[0], node.attr
        elif isinstance(node, ast.Name):
            yield from self.resolved(node.id)

    def resolved(self, name: str) -> Iterator[Node]:
        """Yield the definition that a name stands for in this module."""
        where = self._imported.get(name)
        if where is not None and where[1] is not None:
            yield where[0], where[1]
        elif name in self.definitions:
            yield self.name, name


parsed_module = cache(Module)
"""A module, parsed once a process for each text: edits of other files leave it as it is."""


class Code:
    """The source of a package.

    Args:
        package: its folder.
        edits: texts that replace those of some files, by their path within the package.
    """

    def __init__(self, package: Path = PACKAGE, edits: Mapping[str, str] | None = None) -> None:
        remaining = {str(package / path): text for path, text in (edits or {}).items()}
        paths = modules(package)
        names = frozenset(paths)
        self.modules = {}
        for name, path in paths.items():
            text = remaining.pop(str(path), None) or path.read_text(encoding="utf-8")
            self.modules[name] = parsed_module(name, text, names)
        if remaining:
            raise ValueError(f"no file {', '.join(remaining)}")
        self._models: dict[Node, bool] = {}

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
        """Return the definitions that some definitions reach, each with the code that counts."""
        closed: dict[Node, str] = {}
        waiting = list(roots)
        while waiting:
            node = waiting.pop()
            if node in closed or node not in self or self.modules[node[0]].execution_only:
                continue
            if node in self.registries:
                waiting.extend(self._interchangeable(node))
                continue
            closed[node], reached = self.modules[node[0]].read(node[1], self._is_model(node))
            waiting.extend(reached)
        return closed

    def _interchangeable(self, node: Node) -> Iterator[Node]:
        """Yield the definitions of the members of a registry that all give the same results.

        No memo names which of them was used, so the stages must answer for all.
        """
        for statement in self.modules[node[0]].definitions[node[1]]:
            call = getattr(statement, "value", None)
            if isinstance(call, ast.Call) and any(k.arg == SAME for k in call.keywords):
                package, members = call.args[1], call.args[2]
                assert isinstance(package, ast.Constant) and isinstance(package.value, str)
                assert isinstance(members, ast.Dict)
                for key in members.keys:
                    assert isinstance(key, ast.Constant) and isinstance(key.value, str)
                    yield from definitions(self, f"{package.value}.{key.value}")

    def __contains__(self, node: Node) -> bool:
        return node[0] in self.modules and node[1] in self.modules[node[0]].definitions

    def digest(self, roots: Iterable[Node]) -> str:
        """Return a digest of the code that some definitions reach.

        Modules do not count, so that a definition may move.
        """
        parts = sorted(f"{name} {code}" for (_, name), code in self.closure(roots).items())
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def _is_model(self, node: Node) -> bool:
        """Whether a definition is a class of parameters: it derives from `StrictModel`."""
        if node not in self._models:
            self._models[node] = node == BASE_MODEL or any(
                base in self and self._is_model(base) for base in self._bases(node)
            )
        return self._models[node]

    def _bases(self, node: Node) -> Iterator[Node]:
        module = self.modules[node[0]]
        for statement in module.definitions[node[1]]:
            for base in statement.bases if isinstance(statement, ast.ClassDef) else ():
                if isinstance(base, ast.Name):
                    yield from module.resolved(base.id)


class Significant:
    """Writes the code of a definition as text, without what cannot change a row.

    Attributes:
        visited: the nodes of the source that were written.
    """

    def __init__(self, module: Module, model: bool) -> None:
        self._module, self._model = module, model
        self.visited: list[ast.AST] = []

    def text(self, node: ast.AST) -> str:
        """Return the text of a node: its class, and its fields that are not empty."""
        self.visited.append(node)
        left_out = LEFT_OUT.get(type(node), ())
        parts = [type(node).__name__]
        for name, value in ast.iter_fields(node):
            if name not in left_out and (text := self._field(node, name, value)):
                parts.append(f"{name}={text}")
        return f"({' '.join(parts)})"

    def _field(self, node: ast.AST, name: str, value: object) -> str:
        """Return the text of a field; "" where it is empty or cannot change a row."""
        if name == "value" and isinstance(node, ast.Constant):
            return repr(value)
        if value is None or isinstance(value, ast.expr_context):
            return ""
        if isinstance(value, list):
            return " ".join(self._item(item) for item in self._significant(node, value))
        if isinstance(node, ast.Raise) and isinstance(value, ast.Call) and _is_of_python(value):
            value = value.func
        return self._item(value)

    def _item(self, item: object) -> str:
        if isinstance(item, ast.Call) and self._is_error(item):
            item = item.func
        return self.text(item) if isinstance(item, ast.AST) else repr(item)

    def _significant(self, node: ast.AST, items: list[object]) -> Iterator[object]:
        """Yield what counts of a list: of a body, the statements that do something."""
        for item in items:
            if not isinstance(item, ast.stmt):
                yield item
            elif self._model and isinstance(node, ast.ClassDef):
                if _is_method(item):
                    yield item
            elif not _does_nothing(item):
                yield item

    def _is_error(self, call: ast.Call) -> bool:
        """Whether a call makes an error, or a detail of one: its arguments are text for people."""
        if not isinstance(call.func, ast.Name):
            return False
        return any(module == ERRORS for module, _ in self._module.resolved(call.func.id))


LEFT_OUT: dict[type[ast.AST], tuple[str, ...]] = {
    ast.FunctionDef: ("returns", "type_comment"),
    ast.AsyncFunctionDef: ("returns", "type_comment"),
    ast.arg: ("annotation", "type_comment"),
    ast.AnnAssign: ("annotation",),
    ast.Constant: ("kind",),
    ast.Assert: ("msg",),
    ast.Raise: ("cause",),
}
"""Fields of the syntax tree that cannot change a row."""


def _is_of_python(call: ast.Call) -> bool:
    """Whether a call makes an error of Python's own."""
    known = getattr(builtins, call.func.id, None) if isinstance(call.func, ast.Name) else None
    return isinstance(known, type) and issubclass(known, BaseException)


def _does_nothing(statement: ast.stmt) -> bool:
    """Whether a statement is an import, a docstring, a log message or `pass`."""
    if isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass):
        return True
    if not isinstance(statement, ast.Expr):
        return False
    call = statement.value
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        logger = call.func.value
        return isinstance(logger, ast.Name) and logger.id in LOGGERS
    return isinstance(call, ast.Constant)


def _annotation_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the nodes of the annotations within a definition."""
    for node in ast.walk(statement):
        annotation = getattr(node, "annotation", None) or getattr(node, "returns", None)
        if annotation is not None:
            yield from ast.walk(annotation)


def _imported_names(
    tree: ast.Module, known: frozenset[str]
) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Yield what each imported name stands for: a module, or a definition of one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                name = alias.asname or alias.name
                yield name, (member, None) if member in known else (node.module, alias.name)


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
