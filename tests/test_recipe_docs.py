"""Every parameter is described where it is declared: the recipe reference is generated from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest

from curation.engine.cluster import Cluster
from curation.engine.params_base import StrictModel
from curation.flow import STAGES
from curation.inspect.cost.rates import Assumptions, Prices, Rates
from curation.recipe import Recipe
from curation.stages.retrieve.strategies import STRATEGIES


def reachable(model: type[StrictModel]) -> set[type[StrictModel]]:
    """Return a model and all models that its fields hold, at any depth."""
    reached: set[type[StrictModel]] = set()
    waiting = [model]
    while waiting:
        current = waiting.pop()
        if current not in reached:
            reached.add(current)
            for field in current.model_fields.values():
                waiting += models_in(field.annotation)
    return reached


def models_in(annotation: Any) -> Iterator[type[StrictModel]]:
    """Yield the models that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, StrictModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


ARMS = [STRATEGIES.load(name).StrategyArm for name in STRATEGIES]
ROOTS = [Recipe, *ARMS, *(stage.params for stage in STAGES.values())]
ROOTS += [Cluster, Assumptions, Rates, Prices]
FIELDS = sorted(
    {
        (f"{model.__module__}.{model.__name__}", name, info.description or "")
        for root in ROOTS
        for model in reachable(root)
        for name, info in model.model_fields.items()
    }
)


def test_the_models_of_all_blocks_are_reached() -> None:
    models = {model.rpartition(".")[2] for model, _, _ in FIELDS}
    assert {"Recipe", "Source", "FaceParams", "Checkpoint", "HeldOutSet", "Threshold"} <= models
    assert {"ResamplingParams", "BalanceParams", "JoinSpec", "SearchParams", "Cluster"} <= models
    assert "curation.stages.retrieve.strategies.sample.StrategyArm" in {m for m, _, _ in FIELDS}


@pytest.mark.parametrize(("model", "field", "description"), FIELDS)
def test_every_field_has_a_description_of_its_own(model: str, field: str, description: str) -> None:
    assert description, f"{model}.{field} needs a docstring right below it"
    assert description.rstrip().endswith("."), f"{model}.{field}: write whole sentences"
    assert description[0] == "`" or description[0].isupper()
