"""The base of every model of a recipe, and what of it decides a fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class Strict(BaseModel):
    """A model that refuses unknown keys and cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def execution_only(default: Any, **limits: Any) -> Any:
    """Declare a field that changes how a run works, not what it gives: no fingerprint has it."""
    return Field(default=default, json_schema_extra={"execution_only": True}, **limits)


def input_file(default: Any = ...) -> Any:
    """Declare a field that names a file of the user's: what counts is its content."""
    return Field(default=default, json_schema_extra={"input_file": True})


def _marked(model: Strict, name: str, mark: str) -> bool:
    extra = type(model).model_fields[name].json_schema_extra
    return isinstance(extra, dict) and mark in extra


def fingerprinted(value: Any, content: Callable[[str], str] | None = None) -> Any:
    """Return the JSON-able part of a model that decides what a stage gives.

    Args:
        value: a model, or a part of one.
        content: gives the digest of an input file; without it the path stands for the file.
    """
    if isinstance(value, Strict):
        fields = {}
        for name in type(value).model_fields:
            if _marked(value, name, "execution_only"):
                continue
            found = getattr(value, name)
            if content and found is not None and _marked(value, name, "input_file"):
                fields[name] = content(found)
            else:
                fields[name] = fingerprinted(found, content)
        return fields
    if isinstance(value, dict):
        return {k: fingerprinted(v, content) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [fingerprinted(v, content) for v in value]
    return value


def input_files(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield (place in the recipe, path) of every input file that a model names."""
    if isinstance(value, Strict):
        for name in type(value).model_fields:
            found = getattr(value, name)
            here = f"{place}.{name}" if place else name
            if _marked(value, name, "input_file"):
                if found is not None:
                    yield here, found
            else:
                yield from input_files(found, here)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from input_files(item, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from input_files(item, f"{place}.{number}")
