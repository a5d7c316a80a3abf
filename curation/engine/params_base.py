"""The base of every model of a recipe, and what of it decides a fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

S = TypeVar("S", bound="StrictModel")

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class StrictModel(BaseModel):
    """A model that refuses unknown keys and cannot change.

    The string literal below a field is its description in the recipe reference.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )


def execution_only(default: Any, **limits: Any) -> Any:
    """Declare a field that changes how a run works, not what it gives: no fingerprint has it."""
    return Field(default=default, json_schema_extra={"execution_only": True}, **limits)


def input_file(default: Any = ...) -> Any:
    """Declare a field that names a file of the user's: what counts is its content."""
    return Field(default=default, json_schema_extra={"input_file": True})


def has_mark(model: type[BaseModel], name: str, mark: str) -> bool:
    """Whether a field was declared `execution_only` or `input_file`."""
    extra = model.model_fields[name].json_schema_extra
    return isinstance(extra, dict) and mark in extra


def fingerprint_params(value: Any, content: Callable[[str], str] | None = None) -> Any:
    """Return the JSON-able part of a model that decides what a stage gives.

    A field at its default is left out, so that a new optional field changes no fingerprint. A default
    may therefore change only together with the version of the stage, which the pins enforce.

    Args:
        value: a model, or a part of one.
        content: gives the digest of an input file; without it the path stands for the file.
    """
    if isinstance(value, StrictModel):
        return {
            name: _field(value, name, content)
            for name in type(value).model_fields
            if not has_mark(type(value), name, "execution_only") and not _at_default(value, name)
        }
    if isinstance(value, dict):
        return {k: fingerprint_params(v, content) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [fingerprint_params(v, content) for v in value]
    return value


def manifest_params(model: StrictModel) -> dict[str, Any]:
    """Return all fields of a model that decide rows, those at their default too, for a manifest."""
    return {
        name: _described(getattr(model, name))
        for name in type(model).model_fields
        if not has_mark(type(model), name, "execution_only")
    }


def _described(value: Any) -> Any:
    if isinstance(value, StrictModel):
        return manifest_params(value)
    if isinstance(value, dict):
        return {key: _described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    return value


def changed_fields(model: StrictModel, before: Any) -> set[str]:
    """Return the fields in which a model differs from what `manifest_params` gave of an earlier one.

    A field that the earlier one did not know yet counts as its default.
    """
    try:
        then = fingerprint_params(type(model).model_validate(before))
    except ValidationError:
        return set(type(model).model_fields)
    now = fingerprint_params(model)
    return {name for name in now.keys() | then.keys() if now.get(name) != then.get(name)}


def _at_default(model: StrictModel, name: str) -> bool:
    field = type(model).model_fields[name]
    if field.is_required():
        return False
    return bool(getattr(model, name) == field.get_default(call_default_factory=True))


def _field(model: StrictModel, name: str, content: Callable[[str], str] | None) -> Any:
    value = getattr(model, name)
    if content and value is not None and has_mark(type(model), name, "input_file"):
        return content(value)
    return fingerprint_params(value, content)


def derive_params(kind: type[S], model: StrictModel, **more: Any) -> S:
    """Return a `kind` with the fields that it shares with `model`, and `more`, validated.

    What a stage gets of a recipe's block is a base class of the block, or a class built on it, so that
    each field is declared once and none is copied by hand.
    """
    shared = kind.model_fields.keys() & type(model).model_fields.keys()
    return kind.model_validate({name: getattr(model, name) for name in shared} | more)


def input_files(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield (place in the recipe, path) of every input file that a model names."""
    if isinstance(value, StrictModel):
        for name in type(value).model_fields:
            found = getattr(value, name)
            here = f"{place}.{name}" if place else name
            if has_mark(type(value), name, "input_file"):
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
