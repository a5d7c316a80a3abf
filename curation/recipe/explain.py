"""What is wrong with a recipe, in words for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import ValidationError

from curation.engine.params_base import StrictModel, key_of
from curation.engine.registry import did_you_mean


def _fields_at(model: Any, place: tuple[Any, ...]) -> list[str]:
    """Return the keys that are valid at `place` within a model."""
    for step in place:
        if isinstance(model, type) and issubclass(model, StrictModel):
            names = {key_of(model, name): name for name in model.model_fields}
            info = model.model_fields.get(names.get(step, ""))
            model = info.annotation if info else None
        models = [a for a in _flatten(model) if isinstance(a, type) and issubclass(a, StrictModel)]
        model = models[0] if models else model
    return (
        [key_of(model, name) for name in model.model_fields]
        if isinstance(model, type) and issubclass(model, StrictModel)
        else []
    )


def _flatten(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _flatten(part)


def explain(error: ValidationError, model: type[StrictModel]) -> str:
    """Say in one line a problem what was found, what is valid and how to mend it."""
    lines = []
    for problem in error.errors():
        place = ".".join(str(p) for p in problem["loc"])
        if problem["type"] == "extra_forbidden":
            valid = _fields_at(model, problem["loc"][:-1])
            key = problem["loc"][-1]
            lines.append(
                f"unknown key {place!r}{did_you_mean(key, valid)}. Valid: {', '.join(valid)}"
            )
        elif problem["type"] == "missing":
            lines.append(f"{place!r} is missing; it has no default")
        else:
            found = (
                "" if isinstance(problem["input"], dict | list) else f", found {problem['input']!r}"
            )
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{place}: {message}{found}" if place else message)
    return "\n  ".join(lines)
