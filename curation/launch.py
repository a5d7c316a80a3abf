"""Runs steps of a plan: what the command line, spark-submit jobs and Airflow have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from curation.engine.params_base import changed_fields, input_files
from curation.engine.spark import Cluster
from curation.engine.spark_workers import spark_workers
from curation.engine.store import Store
from curation.errors import RecipeError
from curation.flow import Step
from curation.media.encoders import ENCODERS
from curation.media.encoders.checksum import checked_sha256
from curation.media.encoders.params import EMBEDDINGS, EncoderSpec
from curation.plugins import files_of
from curation.recipe import Recipe
from curation.runner import Outcome, run_step
from curation.stages.embed.params import EmbedParams
from curation.stages.score.heads import HEADS
from curation.stages.score.heads.spec import HeadSpec
from curation.stages.score.params import ScoreStep

if TYPE_CHECKING:
    pass

T = TypeVar("T")
R = TypeVar("R")


def check_inputs(recipe: Recipe) -> None:
    """Refuse a recipe whose files are not there, before any work.

    Raises:
        RecipeError: naming every file that is missing, and weights whose sum is not the recipe's.
    """
    from curation.stages.ingest.sources.listing import source_files

    problems = [
        f"{place}: no file {path!r}"
        for place, path in input_files(recipe)
        if "://" not in path and not Path(path).exists()
    ]
    problems += _mistrusted(recipe)
    for source in recipe.sources:
        try:
            source_files(source, recipe.ingest.rows_per_fragment)
        except RecipeError as error:
            problems.append(str(error))
    if problems:
        raise RecipeError(
            f"Recipe {recipe.name!r}:\n  "
            + "\n  ".join(problems)
            + "\nRelative paths start at the working directory."
        )


def check_encoders(steps: Sequence[Step], store: Store) -> None:
    """Load the encoders whose vectors are not there yet, and the heads on them, so that none fails
    after days of fetching.

    Raises:
        RecipeError: naming every encoder and head that cannot be loaded, and why.
    """
    heads = {
        name: spec
        for step in steps
        if step.name == "score"
        for name, spec in step.params_as(ScoreStep).heads.items()
    }
    read = {name for spec in heads.values() for name in spec.reads()}
    for step in (s for s in steps if s.name == "embed"):
        specs = step.params_as(EmbedParams).encoders
        missing = {n: s for n, s in specs.items() if not _embedded(n, step, store)}
        problems, loaded = [], {}
        for name, spec in missing.items():
            if ENCODERS[spec.family].packaged and name not in read:
                continue
            from curation.media.encoders.encoder import load_encoder

            try:
                encoder = load_encoder(spec, "cpu")
                loaded[name] = encoder.dim, encoder.identity
            except RecipeError as error:
                problems.append(f"embed.encoders.{name}: {error}")
            finally:
                load_encoder.cache_clear()
        fit = {n: s for n, s in heads.items() if set(s.reads()) <= set(loaded)}
        problems += list(_bad_heads(fit, specs, loaded))
        if problems:
            raise RecipeError("\n".join(problems))


def _bad_heads(
    heads: Mapping[str, HeadSpec],
    encoders: Mapping[str, EncoderSpec],
    loaded: Mapping[str, tuple[int, dict[str, Any]]],
) -> Iterator[str]:
    """Yield what is wrong with heads, each loaded and tried on no vectors of the right length."""
    if not heads:
        return
    import numpy as np

    from curation.media.encoders.encoder import load_encoder
    from curation.stages.score.heads.base import EncoderInfo

    for name, spec in heads.items():
        given = EncoderInfo(encoders, {n: identity for n, (_, identity) in loaded.items()})
        try:
            head = HEADS.load(spec.kind).load(spec, given)
            head(*(np.zeros((0, loaded[n][0]), np.float16) for n in spec.reads()))
        except RecipeError as error:
            yield f"score.heads.{name}: {error}"
        finally:
            load_encoder.cache_clear()


def _embedded(name: str, step: Step, store: Store) -> bool:
    """Whether the store has vectors by this encoder as the recipe has it."""
    manifest = store.manifest(EMBEDDINGS.table(name))
    if manifest is None:
        return False
    before = manifest.params["encoders"].get(name)
    return not changed_fields(step.params_as(EmbedParams).encoders[name], before)


def _mistrusted(recipe: Recipe) -> Iterator[str]:
    """Yield what is wrong with the sums of weights files; of stages done before nothing else would."""
    for name, spec in recipe.embed.encoders.items():
        if spec.weights is not None and Path(spec.weights).is_file():
            program = ENCODERS[spec.family].program
            try:
                if spec.sha256 or program:
                    checked_sha256(spec.weights, spec.sha256, required=program)
            except RecipeError as error:
                yield f"embed.encoders.{name}: {error}"


def choose(
    steps: Sequence[Step],
    only: str | None = None,
    first: str | None = None,
    until: str | None = None,
) -> list[Step]:
    """Return the steps between two stages, or one.

    Raises:
        RecipeError: a name is no stage of the plan, or the range is empty.
    """
    names = [s.name for s in steps]
    for name in (only, first, until):
        if name is not None and name not in names:
            raise RecipeError(f"No stage {name!r} in this plan. Valid: {', '.join(names)}.")
    if only is not None:
        return [steps[names.index(only)]]
    start = names.index(first) if first else 0
    end = names.index(until) + 1 if until else len(steps)
    if start >= end:
        raise RecipeError(f"--from {first} comes after --until {until}.")
    return list(steps[start:end])


def run_steps(
    steps: Sequence[Step],
    recipe: Recipe,
    store: Store,
    cluster: Cluster,
    after: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Bring the tables of the steps up to date, in order.

    Args:
        steps: of the plan of the recipe.
        recipe: whose inputs are checked before any work.
        store: where tables are.
        cluster: where tasks run.
        after: called after each step.

    Raises:
        RecipeError: an input or a model is missing or not the one that the recipe names.
    """
    check_inputs(recipe)
    check_encoders(steps, store)
    outcomes = []
    gpu, files = any(step.stage.gpu for step in steps), files_of(recipe.plugins)
    with spark_workers(recipe.name, cluster, gpu, files) as workers:
        for step in steps:
            outcomes.append(run_step(step, store, workers))
            after(outcomes[-1])
    return outcomes
