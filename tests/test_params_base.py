"""Which fields of a model may hold true and false, which YAML reads for yes, no, on and off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, Strict, ValidationError
from typing_extensions import TypedDict

from curation.engine.params_base import Name, StrictModel


class Plain(BaseModel):
    """A model of other rules, as a plug-in may bring it."""

    is_on: bool = False


class Typed(TypedDict):
    """A mapping of known keys."""

    is_on: bool


@dataclass
class Data:
    """A class with fields."""

    is_on: bool


class OfPlugIn(StrictModel):
    """Fields that may hold true, or classes that say so themselves; and `numbers`, which may not."""

    literal: Literal[False, "auto"] = "auto"
    anything: object = None
    model: Plain = Plain()
    models: list[Plain] = []
    typed: dict[str, Typed] = {}
    data: Data | None = None
    switches: dict[str, Annotated[bool, Strict()]] = {}
    numbers: dict[str, list[Annotated[int, Field(ge=0)]]] = {}
    texts: list[Name] = []


@pytest.mark.parametrize(
    "fields",
    [
        {"literal": False},
        {"anything": True},
        {"model": {"is_on": True}},
        {"models": [{"is_on": True}]},
        {"typed": {"a": {"is_on": True}}},
        {"data": {"is_on": True}},
        {"switches": {"a": True}},
    ],
)
def test_a_field_of_a_plug_in_may_hold_true_and_false(fields: dict[str, Any]) -> None:
    assert OfPlugIn(**fields).model_dump(exclude_unset=True) == fields


@pytest.mark.parametrize(
    "fields", [{"model": True}, {"data": True}, {"numbers": {"a": [True]}}, {"texts": [True]}]
)
def test_true_is_no_model_number_or_text_of_a_plug_in(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="true and false are no valid values"):
        OfPlugIn(**fields)
