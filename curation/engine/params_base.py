"""The base class of every model of a recipe, and which of its fields fingerprints depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import is_dataclass
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from curation.errors import Detail, InvalidValueError
from curation.masking import mask_address

S = TypeVar("S", bound="StrictModel")

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
LARGEST_INTEGER = 2**63 - 1
"""Counts, limits and seeds are held in arrays of 64-bit integers."""


class StrictModel(BaseModel):
    """A model that refuses unknown keys and cannot change.

    Neither NaN nor infinity is a number here: a bound of NaN holds for nothing. Nor is true, which YAML
    reads for `yes` and `on`. An integer has 64 bits.

    The string literal below a field is its description in the recipe reference.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool_for_other_types(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = list(annotations_in(cls.model_fields[str(info.field_name)].annotation))
        if any(map(_may_be_bool, kinds)):
            return value
        if not _holds_bool(value, deep=not any(map(_validates_fields, kinds))):
            return value
        without = "; null leaves it out" if NoneType in kinds else ""
        raise ValueError(
            "true and false are no valid values. YAML reads yes, no, on and off as these; write a text "
            f"of these letters in quotes{without}"
        )

    @field_validator("*")
    @classmethod
    def _refuse_integers_of_more_bits(cls, value: Any) -> Any:
        if any(abs(number) > LARGEST_INTEGER for number in _integers_in(value)):
            raise ValueError(f"an integer is at most {LARGEST_INTEGER:,} here")
        return value


def annotations_in(annotation: Any) -> Iterator[Any]:
    """Yield an annotation and all that it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from annotations_in(part)


def _may_be_bool(kind: Any) -> bool:
    """Whether a part of an annotation, such as a value of Literal, allows true or false."""
    return kind in (bool, Any, object) or isinstance(kind, bool)


def _validates_fields(kind: Any) -> bool:
    """Whether a part of an annotation is a class with fields, which have annotations of their own."""
    if not isinstance(kind, type):
        # As constraints are, some of which are dataclasses.
        return False
    # Typed dictionaries and named tuples are subclasses.
    is_plain = kind in (dict, tuple)
    return is_dataclass(kind) or (issubclass(kind, BaseModel | dict | tuple) and not is_plain)


def _holds_bool(value: Any, deep: bool) -> bool:
    """Whether a value is true or false, or holds one; classes with fields check their own."""
    if isinstance(value, bool) or not deep:
        return isinstance(value, bool)
    items = value.values() if isinstance(value, dict) else value
    return isinstance(value, dict | list | tuple) and any(_holds_bool(item, True) for item in items)


def _integers_in(value: Any) -> Iterator[int]:
    """Yield the integers of a value without fields; classes with fields check their own."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _integers_in(item)


def execution_only(default: Any, **limits: Any) -> Any:
    """Declare a field that changes how a run works, not its rows: no fingerprint depends on it.

    Args:
        default: the default value.
        limits: further arguments of `pydantic.Field`.
    """
    return Field(default=default, json_schema_extra={"execution_only": True}, **limits)


def input_file(default: Any = ..., **limits: Any) -> Any:
    """Declare a field with the path of an input file: fingerprints depend on the file's content.

    Args:
        default: the default value. The value may also be a mapping to several paths.
        limits: further arguments of `pydantic.Field`.
    """
    return Field(default=default, json_schema_extra={"input_file": True}, **limits)


def key_of(model: type[BaseModel], name: str) -> str:
    """Return the key of a field in a recipe: its name, unless that is a word of Python."""
    return model.model_fields[name].alias or name


def has_mark(model: type[BaseModel], name: str, mark: str) -> bool:
    """Whether a field was declared `execution_only` or `input_file`."""
    extra = model.model_fields[name].json_schema_extra
    return isinstance(extra, dict) and mark in extra


def fingerprint_params(value: Any, content: Callable[[str], str] | None = None) -> Any:
    """Return the part of a model that decides rows, as values that JSON can hold.

    Fields at their default are left out, so that a new optional field changes no fingerprint. A default
    may therefore change only together with the version of the stage; the pins enforce it.

    Args:
        value: a model, or a part of one.
        content: returns the digest of an input file; without it the path stands for the file.
    """
    if isinstance(value, StrictModel):
        return {
            key_of(type(value), name): _field(value, name, content)
            for name in type(value).model_fields
            if not has_mark(type(value), name, "execution_only") and not _at_default(value, name)
        }
    if isinstance(value, dict):
        return {k: fingerprint_params(v, content) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [fingerprint_params(v, content) for v in value]
    return value


def manifest_params(model: StrictModel) -> dict[str, Any]:
    """Return every field of a model that decides rows, also at its default, for a manifest.

    Secrets in addresses are masked: who reads the store need not know them.
    """
    return {
        key_of(type(model), name): _manifest_value(getattr(model, name))
        for name in type(model).model_fields
        if not has_mark(type(model), name, "execution_only")
    }


def _manifest_value(value: Any) -> Any:
    if isinstance(value, StrictModel):
        return manifest_params(value)
    if isinstance(value, dict):
        return {key: _manifest_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_manifest_value(item) for item in value]
    return mask_address(value) if isinstance(value, str) and "://" in value else value


def changed_fields(model: StrictModel, before: Any) -> set[str]:
    """Return the fields whose values differ between a model and an earlier one.

    Args:
        model: the model.
        before: what `manifest_params` returned for the earlier one. A field that is missing there
            counts as its default.
    """
    try:
        earlier = fingerprint_params(type(model).model_validate(before))
        # Both without secrets in addresses, which may be others today.
        now = fingerprint_params(type(model).model_validate(manifest_params(model)))
    except ValidationError:
        return set(type(model).model_fields)
    return {name for name in now.keys() | earlier.keys() if now.get(name) != earlier.get(name)}


def _at_default(model: StrictModel, name: str) -> bool:
    field = type(model).model_fields[name]
    if field.is_required():
        return False
    return bool(getattr(model, name) == field.get_default(call_default_factory=True))


def refuse_without_effect(model: StrictModel, names: Iterable[str], reason: str, fix: str) -> None:
    """Refuse fields that decide nothing beside the other fields, unless they are at their default.

    Args:
        model: has the fields.
        names: of these fields.
        reason: with what they have no effect, as "with index: exact".
        fix: what else to set.

    Raises:
        InvalidValueError: one of them has another value.
    """
    details = [
        Detail(f"it has no effect {reason}", name, getattr(model, name), fix=fix)
        for name in names
        if not _at_default(model, name)
    ]
    if details:
        raise InvalidValueError(*details)


def _field(model: StrictModel, name: str, content: Callable[[str], str] | None) -> Any:
    value = getattr(model, name)
    if content and value is not None and has_mark(type(model), name, "input_file"):
        if isinstance(value, dict):
            return {key: content(path) for key, path in value.items()}
        return content(value)
    return fingerprint_params(value, content)


def derive_params(kind: type[S], model: StrictModel, **extra: Any) -> S:
    """Return a model of another class with the fields that it shares with `model`, validated.

    The parameters of a stage share a base class with the recipe's block, so that each field is declared
    once and none is copied by hand.

    Args:
        kind: class of the new model.
        model: where the shared fields come from.
        extra: values of further fields.
    """
    shared = kind.model_fields.keys() & type(model).model_fields.keys()
    fields = {key_of(kind, name): getattr(model, name) for name in shared}
    return kind.model_validate(fields | extra)


def input_files(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield for every input file that a model names its place in the recipe, and its path."""
    if isinstance(value, StrictModel):
        for name in type(value).model_fields:
            field_value = getattr(value, name)
            key = key_of(type(value), name)
            field_place = f"{place}.{key}" if place else key
            if has_mark(type(value), name, "input_file"):
                if isinstance(field_value, dict):
                    yield from ((f"{field_place}.{k}", path) for k, path in field_value.items())
                elif field_value is not None:
                    yield field_place, field_value
            else:
                yield from input_files(field_value, field_place)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from input_files(item, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from input_files(item, f"{place}.{number}")
