"""What a run would need, from the counts of the sources and the measured size of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curation.errors import RecipeError
from curation.inspect.check.machine import Machine
from curation.inspect.check.survey import Survey
from curation.inspect.check.trial import Trial
from curation.inspect.cost.encoder_profiles import profile_encoders
from curation.inspect.cost.estimate import SECONDS_PER_HOUR, estimate
from curation.inspect.cost.rates import Assumptions, Prices, Rates, default_file, load_yaml
from curation.inspect.cost.workload import work_of_stages
from curation.recipe import Recipe

KIB = 1024


@dataclass(frozen=True)
class Estimate:
    """What a run would need. The figures are rough.

    Attributes:
        stored: bytes that it writes.
        memory: bytes of the driver's memory.
        core_seconds: seconds of one core.
        gpu_seconds: seconds of one GPU.
    """

    stored: float
    memory: float
    core_seconds: float
    gpu_seconds: float


def expected_needs(
    recipe: Recipe, surveys: Sequence[Survey], trial: Trial, machine: Machine
) -> Estimate | None:
    """Return what a run would need; None if the cost of one of its stages is unknown.

    Args:
        recipe: the recipe.
        surveys: of all its sources.
        trial: a sample of its pictures.
        machine: where it would run.
    """
    rows = {survey.source.name: survey.rows for survey in surveys}
    sources = [s.model_copy(update={"count": max(1, rows[s.name])}) for s in recipe.sources]
    is_local = all(not source.has_remote_images for source in recipe.sources)
    changes: dict[str, Any] = {"fetched": 1.0 if is_local else Assumptions().fetched, "clean": 1.0}
    if trial.stored_bytes:
        changes["stored_kib"] = trial.stored_bytes / KIB
    assumptions = Assumptions(**changes)
    counted = recipe.model_copy(update={"sources": sources})
    try:
        encoders = profile_encoders(counted)
        try:
            works = work_of_stages(counted, encoders, assumptions)
        except RecipeError:
            # An arm whose claims only the data decide: as if it took the whole pool.
            whole = counted.model_copy(update={"retrieve": []})
            works = work_of_stages(whole, encoders, assumptions)
    except RecipeError:
        return None
    rates, prices = (
        load_yaml(Rates, default_file("rates")),
        load_yaml(Prices, default_file("prices")),
    )
    if not machine.gpus:
        rates = rates.without_gpu()
    costs = estimate(works, rates, prices, months=0)
    return Estimate(
        stored=sum(work.stored for work in works),
        memory=max(work.driver for work in works),
        core_seconds=SECONDS_PER_HOUR * sum(cost.cpu_hours for cost in costs),
        gpu_seconds=SECONDS_PER_HOUR * sum(cost.gpu_hours for cost in costs),
    )
