"""Every recipe that a test parses is compared with the JSON schema of recipes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from curation.plugins import REGISTRIES
from curation.recipe import Recipe
from curation.recipe.checks import disagreements
from curation.recipe.schema import recipe_schema


def validator() -> Draft202012Validator:
    """The schema with the members that the registries have now: tests add some."""
    return _validator_of(tuple(tuple(registry) for registry in REGISTRIES.values()))


@cache
def _validator_of(members: tuple[tuple[str, ...], ...]) -> Draft202012Validator:
    return Draft202012Validator(recipe_schema())


def problems(spec: Any) -> list[str]:
    """What a recipe has that the schema does not allow."""
    errors = validator().iter_errors(spec)
    return [f"{'.'.join(map(str, e.absolute_path))}: {e.message[:300]}" for e in errors]


@contextmanager
def compared_with_schema() -> Iterator[None]:
    """Fail where the models accept a recipe that the schema refuses."""
    validator()
    parse, seen = Recipe.model_validate.__func__, set()  # type: ignore[attr-defined]

    def compared(cls: type[Recipe], spec: Any, /, **options: Any) -> Recipe:
        recipe: Recipe = parse(cls, spec, **options)
        text = json.dumps(spec, default=str, sort_keys=True)
        if isinstance(spec, dict) and hash(text) not in seen:
            seen.add(hash(text))
            if not list(disagreements(recipe)):
                assert problems(spec) == [], "the models accept it, and curation schema does not"
        return recipe

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recipe, "model_validate", classmethod(compared))
        yield
