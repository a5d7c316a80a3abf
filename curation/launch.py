"""Runs steps of a plan: what the command line, spark-submit jobs and Airflow have in common."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from curation.embed.checksum import checked_sha256
from curation.embed.encoders import PACKAGED, PROGRAMS
from curation.embed.params import EncoderSpec
from curation.errors import CurationError, RecipeError
from curation.flow import Step, plan
from curation.parallel import OnSpark, Shuffle
from curation.recipe import Recipe, load_recipe
from curation.runner import Outcome, run_step
from curation.score.heads import HEADS
from curation.score.params import HeadSpec
from curation.spark import Cluster, load_cluster, open_session
from curation.store import DATASET, Store
from curation.strict import fingerprinted, input_files

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

T = TypeVar("T")
R = TypeVar("R")


class SparkWhenNeeded:
    """Workers on Spark; the session starts with the first work, so a run with none starts none."""

    def __init__(self, name: str, cluster: Cluster, gpus: int = 0) -> None:
        self._name, self._cluster, self._gpus = name, cluster, gpus
        self._session: SparkSession | None = None

    def map(
        self,
        what: str,
        function: Callable[[T], R],
        items: Sequence[T],
        note: Callable[[], str] | None = None,
        gpu: bool = False,
    ) -> list[R]:
        """Return `[function(i) for i in items]`, computed by Spark tasks."""
        if not items:
            return []
        return self._spark().map(what, function, items, note, gpu)

    def exchange(self, job: Shuffle) -> list[Any]:
        """Return what each part makes of all that it is sent, by a shuffle of Spark's."""
        return self._spark().exchange(job)

    def _spark(self) -> OnSpark:
        if self._session is None:
            self._session = open_session(self._name, self._cluster, self._gpus)
        return OnSpark(self._session)

    def stop(self) -> None:
        """Stop the session, if one was started."""
        if self._session is not None:
            self._session.stop()


@contextmanager
def workers(name: str, cluster: Cluster, steps: Sequence[Step]) -> Iterator[SparkWhenNeeded]:
    """Give workers for some steps, and stop them afterwards."""
    parallel = SparkWhenNeeded(name, cluster, max((s.stage.gpus for s in steps), default=0))
    try:
        yield parallel
    finally:
        parallel.stop()


def check_inputs(recipe: Recipe) -> None:
    """Refuse a recipe whose files are not there, before any work.

    Raises:
        RecipeError: naming every file that is missing, and weights whose sum is not the recipe's.
    """
    from curation.ingest.listing import source_files

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
        for name, spec in step.params.heads.items()  # type: ignore[attr-defined]
    }
    read = {name for spec in heads.values() for name in spec.reads()}
    for step in (s for s in steps if s.name == "embed"):
        specs: dict[str, EncoderSpec] = step.params.encoders  # type: ignore[attr-defined]
        missing = {n: s for n, s in specs.items() if not _embedded(n, step, store)}
        problems, loaded = [], {}
        for name, spec in missing.items():
            if spec.model in PACKAGED and name not in read:
                continue
            from curation.embed.encoder import load_encoder

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

    from curation.embed.encoder import load_encoder
    from curation.score.head import Given

    for name, spec in heads.items():
        given = Given(encoders, {n: identity for n, (_, identity) in loaded.items()})
        try:
            head = import_module(HEADS[spec.kind].module).load(spec, given)
            head(*(np.zeros((0, loaded[n][0]), np.float16) for n in spec.reads()))
        except RecipeError as error:
            yield f"score.heads.{name}: {error}"
        finally:
            load_encoder.cache_clear()


def _embedded(name: str, step: Step, store: Store) -> bool:
    """Whether the store has vectors by this encoder as the recipe has it."""
    manifest = store.manifest(f"embeddings.{name}")
    if manifest is None:
        return False
    before = manifest.params.get("encoders", {}).get(name)
    now: dict[str, Any] = fingerprinted(step.params)["encoders"]
    return bool(before == now[name])


def _mistrusted(recipe: Recipe) -> Iterator[str]:
    """Yield what is wrong with the sums of weights files; of stages done before nothing else would."""
    for name, spec in recipe.embed.encoders.items():
        if spec.weights is not None and Path(spec.weights).is_file():
            program = spec.model in PROGRAMS
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
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Bring the tables of the steps up to date, in order; after the last stage write the report."""
    check_inputs(recipe)
    check_encoders(steps, store)
    outcomes = []
    with workers(recipe.name, cluster, steps) as parallel:
        for step in steps:
            outcomes.append(run_step(step, store, parallel))
            tell(outcomes[-1])
    if any(step.tables == (DATASET,) for step in steps):
        from curation.report.build import write_report

        write_report(recipe, store)
    return outcomes


def main(stage: str) -> None:
    """Run one stage: the entry point of `jobs/`, for spark-submit."""
    parser = argparse.ArgumentParser(description=f"Run the stage {stage} of a recipe.")
    parser.add_argument("--recipe", required=True, help="path of the recipe")
    parser.add_argument("--store", required=True, help="folder or URI of the store")
    parser.add_argument(
        "--cluster",
        default=None,
        help="name or path of a conf/clusters file; default: spark-submit's",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # What spark-submit was told about master and resources stands; a cluster file only adds to it.
    cluster = load_cluster(arguments.cluster) if arguments.cluster else Cluster()
    try:
        recipe = load_recipe(arguments.recipe)
        steps = choose(plan(recipe), only=stage)
        run_steps(steps, recipe, Store(arguments.store), cluster)
    except CurationError as error:
        sys.exit(_fail(error))


def _fail(error: CurationError) -> int:
    logging.getLogger(__name__).error("%s", error)
    return 2 if isinstance(error, RecipeError) else 1
