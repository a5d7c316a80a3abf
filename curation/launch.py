"""Runs the steps of a plan, for the command line, spark-submit jobs and Airflow alike.

Everything that can be checked early is checked before any work: input files, checksums, encoders and
heads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from curation.engine.context import EARLIER_VERSIONS
from curation.engine.params_base import changed_fields, derive_params, input_files
from curation.engine.spark import Cluster
from curation.engine.spark_workers import spark_workers
from curation.errors import Detail, RecipeError, StoreError, TakenDownError, start_of_paths
from curation.flow import Step, plan, run_fingerprint
from curation.masking import mask_address
from curation.media.encoders import ENCODERS
from curation.media.encoders.checksum import checked_sha256
from curation.media.encoders.params import EMBEDDINGS, EncoderSpec
from curation.media.web.params import OutboundParams
from curation.plugins import files_of
from curation.recipe import Recipe
from curation.runner.observer import Observers, RunObserver
from curation.runner.step import StepResult, planned_steps, run_step
from curation.stages.embed.params import EmbedParams
from curation.stages.fetch.packages import check_packages
from curation.stages.fetch.params import FetchStep
from curation.stages.score.heads import HEADS
from curation.stages.score.heads.spec import HeadSpec
from curation.stages.score.params import ScoreStep
from curation.store.problem import Problem
from curation.store.run_log import Again, recorded_run, refreshed
from curation.store.step_log import StepLog, Waiting
from curation.store.store import Store
from curation.store.verification import verify_store

logger = logging.getLogger(__name__)


def _nothing(result: StepResult) -> None:
    """Do nothing with the result of a step."""


@dataclass(frozen=True)
class RunOptions:
    """How a run goes.

    Attributes:
        on_step_end: called with the result of each step.
        waiting: what to do while another run works on one of the steps.
        again: what is computed again although nothing changed.
        observers: are told what the run does.
    """

    on_step_end: Callable[[StepResult], None] = _nothing
    waiting: Waiting = field(default_factory=Waiting)
    again: Again = field(default_factory=Again)
    observers: Sequence[RunObserver] = ()


DEFAULT_OPTIONS = RunOptions()
Loaded = dict[str, tuple[int, dict[str, Any]]]
"""Dimension and identity of loaded encoders, by name."""


OTHER_STORE = "A run would read its own files as rows: choose another store, or a `path` without it"


def check_inputs(recipe: Recipe) -> None:
    """Check that every input file of a recipe is there, and has the checksum that the recipe states.

    Raises:
        RecipeError: the message lists every problem.
    """
    from curation.stages.ingest.sources.listing import source_files

    problems = [
        problem
        for place, path in input_files(recipe)
        if (problem := _problem_of_file(place, path)) is not None
    ]
    problems += _wrong_checksums(recipe)
    outbound = derive_params(OutboundParams, recipe.fetch)
    for source in recipe.sources:
        try:
            source_files(source, recipe.ingest.rows_per_fragment, outbound)
        except RecipeError as error:
            problems += error.details
    if problems:
        raise RecipeError(*problems, within=f"Recipe {recipe.name!r}")


def _problem_of_file(place: str, path: str) -> Detail | None:
    """Return what is wrong with an input file; None if it is there."""
    if "://" in path:
        address = mask_address(path)
        message = f"{address!r} is an address, and only lists and stores may be elsewhere"
        return Detail(
            message, place, address, fix="Download the file, and set the path of your copy"
        )
    if Path(path).exists():
        return None
    return Detail(f"no file {path!r}", place, path, fix=start_of_paths())


def check_store(recipe: Recipe, store: Store) -> None:
    """Check that a run can write its store, and that no source would read what it writes.

    Raises:
        RecipeError: the files of a source and of the store are mixed up.
        StoreError: the store cannot be written.
    """
    from curation.stages.ingest.sources.overlap import overlap

    problems = [
        Detail(problem, f"source {source.name!r}", source.path, fix=OTHER_STORE)
        for source in recipe.sources
        if (problem := overlap(source, store.uri))
    ]
    if problems:
        raise RecipeError(*problems, within=f"Recipe {recipe.name!r}")
    if store.storage.is_local:
        probe = f"probe-{uuid4().hex}"
        store.storage.write(probe, b"")
        store.storage.delete([probe])


def check_encoders(steps: Sequence[Step], store: Store) -> None:
    """Load the encoders and heads that the steps will use, so that none fails after days of fetching.

    Encoders whose vectors are in the store, and packaged encoders that no head reads, are left out.

    Raises:
        RecipeError: the message names every encoder and head that cannot be loaded, and the reason.
    """
    heads = {
        name: spec
        for step in steps
        if step.name == "score"
        for name, spec in step.params_as(ScoreStep).heads.items()
    }
    read_by_heads = {name for spec in heads.values() for name in spec.reads()}
    for step in (s for s in steps if s.name == "embed"):
        encoders = step.params_as(EmbedParams).encoders
        needed = {
            name: spec
            for name, spec in encoders.items()
            if not _is_embedded(name, step, store)
            and (name in read_by_heads or not ENCODERS[spec.family].packaged)
        }
        loaded, problems = _load_encoders(needed)
        usable = {n: s for n, s in heads.items() if set(s.reads()) <= set(loaded)}
        problems += list(_head_problems(usable, encoders, loaded))
        if problems:
            raise RecipeError(*problems)


def imported_problems(specs: Mapping[str, EncoderSpec]) -> list[Detail]:
    """Return what is wrong with each encoder whose imported vectors, or their ids, cannot be used."""
    return _load_encoders({name: spec for name, spec in specs.items() if spec.is_imported})[1]


def _load_encoders(specs: Mapping[str, EncoderSpec]) -> tuple[Loaded, list[Detail]]:
    """Load encoders, one in memory at a time; return their properties, and each failure."""
    loaded: Loaded = {}
    problems: list[Detail] = []
    if not specs:
        return loaded, problems
    from curation.media.encoders.imported import check_vectors

    for name, spec in specs.items():
        try:
            loaded[name] = check_vectors(spec) if spec.is_imported else _load_encoder(spec)
        except (RecipeError, StoreError) as error:
            problems += [detail.within(f"embed.encoders.{name}") for detail in error.details]
    return loaded, problems


def _load_encoder(spec: EncoderSpec) -> tuple[int, dict[str, Any]]:
    from curation.media.encoders.encoder import load_encoder

    try:
        encoder = load_encoder(spec, "cpu")
        return encoder.dim, encoder.identity
    finally:
        load_encoder.cache_clear()


def _head_problems(
    heads: Mapping[str, HeadSpec], encoders: Mapping[str, EncoderSpec], loaded: Loaded
) -> Iterator[Detail]:
    """Yield why heads cannot be loaded, or called with vectors of their encoders."""
    if not heads:
        return
    import numpy as np

    from curation.media.encoders.encoder import load_encoder
    from curation.stages.score.heads.base import EncoderInfo

    for name, spec in heads.items():
        info = EncoderInfo(encoders, {n: identity for n, (_, identity) in loaded.items()})
        try:
            head = HEADS.load(spec.kind).load(spec, info)
            # No vectors, of the right length: the head checks their dimension.
            head(*(np.zeros((0, loaded[n][0]), np.float16) for n in spec.reads()))
        except RecipeError as error:
            yield from (detail.within(f"score.heads.{name}") for detail in error.details)
        finally:
            load_encoder.cache_clear()


def _is_embedded(name: str, step: Step, store: Store) -> bool:
    """Whether the store has the vectors of an encoder with the parameters of the recipe."""
    table, spec = EMBEDDINGS.table(name), step.params_as(EmbedParams).encoders[name]
    headers = (store.header(table, v) for v in store.versions(table)[:EARLIER_VERSIONS])
    return any(
        header is not None and not changed_fields(spec, header["params"]["encoders"].get(name))
        for header in headers
    )


def _wrong_checksums(recipe: Recipe) -> Iterator[Detail]:
    """Yield what is wrong for each weights file whose checksum is wrong or missing.

    Loading an encoder checks this too, but an encoder whose vectors are in the store is not loaded.
    """
    for name, spec in recipe.embed.encoders.items():
        if spec.weights is not None and Path(spec.weights).exists():
            program = ENCODERS[spec.family].program
            try:
                if spec.sha256 or program:
                    checked_sha256(spec.weights, spec.sha256, required=program)
            except RecipeError as error:
                yield from (d.within(f"embed.encoders.{name}") for d in error.details)
    for name, head in recipe.score.heads.items():
        try:
            if head.weights is not None and head.sha256 and Path(head.weights).exists():
                checked_sha256(head.weights, head.sha256)
        except RecipeError as error:
            yield from (d.within(f"score.heads.{name}") for d in error.details)
    faces = recipe.fetch.faces
    try:
        if faces.weights is not None and faces.sha256 and Path(faces.weights).exists():
            checked_sha256(faces.weights, faces.sha256)
    except RecipeError as error:
        yield from (d.within("fetch.faces") for d in error.details)


def verify_inputs(steps: Sequence[Step], store: Store) -> list[Problem]:
    """Set damaged files aside that some steps would read or reuse, so that they are computed anew.

    Checked are the committed versions of the tables that the steps read or write, and the work tables
    of their stages.

    Returns:
        What was wrong.
    """
    writers = {table: step.fingerprint for step in steps for table in step.tables}
    for step in steps:
        writers |= {table: step.writers[table] for table in step.inputs}
    versions = {}
    for table, fingerprint in writers.items():
        committed = StepLog(store, fingerprint).latest().tables.get(table)
        if committed is not None:
            versions[str(table)] = committed.version
    work = set(store.storage.folders("work")) & {step.name for step in steps}
    return verify_store(store, [*versions, *(f"work/{name}" for name in work)], True, versions)


def run_steps(
    steps: Sequence[Step],
    recipe: Recipe,
    store: Store,
    cluster: Cluster,
    options: RunOptions = DEFAULT_OPTIONS,
) -> list[StepResult]:
    """Check the inputs of a recipe, then bring the tables of some steps up to date, in order.

    Args:
        steps: steps of the recipe's plan.
        recipe: the recipe.
        store: where tables are.
        cluster: where tasks run.
        options: how the run goes.

    Raises:
        BoundsError: more rows failed than the recipe allows.
        ExpectationError: the dataset is not what the recipe expects.
        RecipeError: an input file, a package or a model is missing, or is not the one that the recipe
            names.
        StoreError: the store cannot be written; see also `run_step`.
        ContractError: see `run_step`.
    """
    check_inputs(recipe)
    for step in (step for step in steps if step.name == "fetch"):
        check_packages(step.params_as(FetchStep))
    check_store(recipe, store)
    check_encoders(steps, store)
    names = {step.name for step in steps}
    try:
        return _run(steps, recipe, store, cluster, options, names)
    except TakenDownError as error:
        logger.warning("%s. The run begins again without these rows.", error.details[0].message)
    # Also the steps before these: their tables have the rows.
    whole = plan(recipe, until=steps[-1].name)
    return _run(whole, recipe, store, cluster, options, names)


def _run(
    steps: Sequence[Step],
    recipe: Recipe,
    store: Store,
    cluster: Cluster,
    options: RunOptions,
    selected: Collection[str],
) -> list[StepResult]:
    """Bring the tables of some steps up to date, in order; see `run_steps`.

    `options.again` holds for the `selected` names of steps alone: others are not downloaded again.
    """
    results = []
    gpu, files = any(step.stage.gpu for step in steps), files_of(recipe.plugins)
    inputs = [path for step in steps for _, path in input_files(step.params)]
    with (
        Observers(options.observers) as observers,
        recorded_run(store, recipe.name, run_fingerprint(recipe), planned_steps(steps)) as run,
        refreshed(run, options.waiting.clock),
        spark_workers(recipe.name, cluster, gpu, files, inputs, run.activity) as workers,
    ):
        observers.run_started(run.record, steps)
        for step in steps:
            run.again = options.again if step.name in selected else Again()
            observers.step_started(step)
            results.append(run_step(step, store, workers, run, options.waiting))
            observers.step_ended(results[-1])
            options.on_step_end(results[-1])
    return results
