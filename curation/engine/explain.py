"""What is wrong with a recipe, or another file that a model describes, in words for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError

from curation.engine.params_base import StrictModel, key_of
from curation.errors import Detail, InvalidValueError, unknown


def _fields_at(model: type[StrictModel], place: tuple[Any, ...]) -> list[str]:
    """Return the keys that are valid at `place` within a model."""
    kinds: list[Any] = [model]
    for step in place:
        # Pydantic also names the member of a union in a place, which is no step into a value.
        kinds = [inner for kind in kinds for inner in _kinds_in(kind, step)] or kinds
    models = [kind for kind in kinds if _is_model(kind)]
    return list(dict.fromkeys(key_of(each, name) for each in models for name in each.model_fields))


def _kinds_in(kind: Any, step: Any) -> Iterator[Any]:
    """Yield what is at a key or an index of a model, a mapping or a list."""
    if _is_model(kind):
        for name, info in kind.model_fields.items():
            if key_of(kind, name) == step:
                yield from _members(info.annotation)
    elif parts := get_args(kind):
        yield from _members(parts[-1] if get_origin(kind) is dict else parts[0])


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the members of an annotation if it is a union, and the annotation itself otherwise."""
    if get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _members(part)
    elif get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    else:
        yield annotation


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrictModel)


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
    message = re.sub("valid dictionary( or instance of .*)?", "mapping (`key: value`)", message)
    if isinstance(given, dict | list):
        # The error of a whole mapping says itself what is wrong with it.
        kind = "a mapping" if isinstance(given, dict) else "a list"
        of_type = problem["type"].endswith("_type")
        return [Detail(f"{message}, found {kind}" if of_type else message, place)]
    expected = problem.get("ctx", {}).get("expected", "")
    valid = re.findall(r"'([^']+)'", expected) if problem["type"] == "literal_error" else []
    return [Detail(f"{message}, found {given!r}", place, given, valid)]
