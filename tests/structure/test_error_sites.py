"""Errors that a user can meet are raised with fields that programs read, not as a text alone."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator

import curation.errors
from scripts.structure import PACKAGE

ERRORS = {
    name
    for name, kind in vars(curation.errors).items()
    if inspect.isclass(kind) and issubclass(kind, curation.errors.CurationError)
}


def is_text(node: ast.expr) -> bool:
    """Whether an argument is a text, or is joined of texts."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "str"
    if isinstance(node, ast.IfExp):
        return is_text(node.body) or is_text(node.orelse)
    # What a subscript gives is not known here; a detail is unpacked: `*details`.
    return isinstance(node, ast.JoinedStr | ast.BinOp | ast.Subscript) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def texts_alone(source: str) -> Iterator[int]:
    """Yield the lines that make an error of a text, without `fix`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            has_fix = any(keyword.arg == "fix" for keyword in node.keywords)
            if node.func.id in ERRORS and not has_fix and any(map(is_text, node.args)):
                yield node.lineno


def test_errors_have_fields() -> None:
    places = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line in texts_alone(path.read_text(encoding="utf-8"))
    ]
    assert not places, "give these errors a Detail, or `fix`"


def test_texts_are_recognised() -> None:
    source = """
raise StoreError("a text")
raise RecipeError(f"{x} and " + y)
raise CurationError(str(error))
raise StoreError(problems[0])
raise StoreError(problem if problem else f"no {x}")
raise StoreError("a text", fix="mend it")
raise RecipeError(Detail("a text"))
raise ValueError("a text")
"""
    assert list(texts_alone(source)) == [2, 3, 4, 5, 6]
