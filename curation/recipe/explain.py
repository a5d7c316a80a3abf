"""What is wrong with a recipe, in words for people."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from curation.engine.params_base import StrictModel, annotations_in, key_of
from curation.errors import Detail, InvalidValueError, unknown


def _fields_at(model: Any, place: tuple[Any, ...]) -> list[str]:
    """Return the keys that are valid at `place` within a model."""
    for step in place:
        if isinstance(model, type) and issubclass(model, StrictModel):
            names = {key_of(model, name): name for name in model.model_fields}
            info = model.model_fields.get(names.get(step, ""))
            model = info.annotation if info else None
        kinds = annotations_in(model)
        models = [a for a in kinds if isinstance(a, type) and issubclass(a, StrictModel)]
        model = models[0] if models else model
    return (
        [key_of(model, name) for name in model.model_fields]
        if isinstance(model, type) and issubclass(model, StrictModel)
        else []
    )


def explain(error: ValidationError, model: type[StrictModel]) -> list[Detail]:
    """Return each problem: where it is, what was found, what is valid and how to mend it."""
    return [detail for problem in error.errors() for detail in _details(problem, model)]


def _details(problem: Any, model: type[StrictModel]) -> list[Detail]:
    place, given = ".".join(map(str, problem["loc"])), problem["input"]
    if problem["type"] == "extra_forbidden":
        valid = _fields_at(model, problem["loc"][:-1])
        key = problem["loc"][-1]
        return [unknown("key", key, valid, where=place)]
    if problem["type"] == "missing":
        return [Detail(f"{place!r} is missing", place, fix="Add this key; it has no default")]
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, InvalidValueError):
        return [detail.below(place) for detail in cause.details]
    message = problem["msg"].removeprefix("Value error, ")
    if isinstance(given, dict | list):
        return [Detail(message, place)]
    expected = problem.get("ctx", {}).get("expected", "")
    valid = re.findall(r"'([^']+)'", expected) if problem["type"] == "literal_error" else []
    return [Detail(f"{message}, found {given!r}", place, given, valid)]
