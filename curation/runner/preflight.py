"""Checks before any work: input files, checksums, the store, encoders and heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from curation.engine.context import EARLIER_VERSIONS
from curation.engine.params_base import changed_fields, derive_params, input_files
from curation.errors import Detail, RecipeError, StoreError, start_of_paths
from curation.flow import Step
from curation.masking import mask_address
from curation.media.encoders import ENCODERS
from curation.media.encoders.checksum import checked_sha256
from curation.media.encoders.params import EMBEDDINGS, EncoderSpec
from curation.media.vectors.file_order import order_problem
from curation.media.web.params import OutboundParams
from curation.recipe import Recipe
from curation.recipe.weights import weights_of
from curation.stages.embed.params import EmbedParams
from curation.stages.score.heads import HEADS
from curation.stages.score.heads.spec import HeadSpec
from curation.stages.score.params import ScoreStep
from curation.store.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

OTHER_STORE = "A run would read its own files as rows: choose another store, or a `path` without it"
Loaded = dict[str, tuple[int, dict[str, Any]]]
"""Dimension and identity of loaded encoders, by name."""


def check_inputs(recipe: Recipe) -> None:
    """Check that every input file of a recipe is there, and has the checksum that the recipe states.

    Raises:
        RecipeError: the message lists every problem.
        StoreError: sources cannot be reached now, and there is no other problem.
    """
    from curation.stages.ingest.sources.listing import source_files

    problems = [
        problem
        for place, path in input_files(recipe)
        if (problem := _problem_of_file(place, path)) is not None
    ]
    problems += _wrong_checksums(recipe)
    outbound, unreachable = derive_params(OutboundParams, recipe.fetch), list[Detail]()
    for source in recipe.sources:
        try:
            files = source_files(source, recipe.ingest.rows_per_fragment, outbound)
            problems += _mixed_up(recipe, source.name, [file.name for file in files])
        except RecipeError as error:
            problems += error.details
        except StoreError as error:
            unreachable += error.details
    if problems:
        raise RecipeError(*problems, *unreachable, within=f"Recipe {recipe.name!r}")
    if unreachable:
        raise StoreError(*unreachable, within=f"Recipe {recipe.name!r}")


def _mixed_up(recipe: Recipe, source: str, names: Sequence[str]) -> Iterator[Detail]:
    """Yield each encoder whose vectors would meet the rows of other files of a source."""
    for name, spec in recipe.embed.encoders.items():
        if spec.ids is None or spec.ids.join != "rows":
            continue
        from curation.media.encoders.imported import of_source
        from curation.media.vectors.vector_set import vector_files

        path = of_source(spec.vectors, source)
        # What else is wrong with vectors, reading them shows.
        with suppress(RecipeError):
            vectors = [] if path is None else [file.stem for file in vector_files(path)]
            problem = order_problem(
                vectors, [Path(n).stem for n in names if n], f"source {source!r}"
            )
            if problem is not None:
                yield problem.within(f"embed.encoders.{name}")


def _problem_of_file(place: str, path: str) -> Detail | None:
    """Return what is wrong with an input file, or a folder of a model; None if it is there."""
    if "://" in path:
        address = mask_address(path)
        message = f"{address!r} is an address, and only lists and stores may be elsewhere"
        return Detail(
            message, place, address, fix="Download the file, and set the path of your copy"
        )
    if _is_there(path):
        return None
    if Path(path).exists():
        message = f"{path!r} is a pipe, a device or a socket"
        return Detail(message, place, path, fix="Name a file: each part of a run reads it again")
    return Detail(f"no file {path!r}", place, path, fix=start_of_paths())


def _is_there(path: str) -> bool:
    """Whether an input file, or a folder of a model, is there. Nothing else is ever opened."""
    return Path(path).is_file() or Path(path).is_dir()


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
        try:
            store.storage.write(probe, b"")
        except FileNotFoundError as error:
            fix = "Choose another store"
            message = f"No folder can be made at {store.uri}: its file system takes none"
            raise StoreError(Detail(message, "--store", store.uri, fix=fix)) from error
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
    from curation.stages.score.heads.base import EncoderInfo, apply_head

    for name, spec in heads.items():
        info = EncoderInfo(encoders, {n: identity for n, (_, identity) in loaded.items()})
        try:
            head = HEADS.load(spec.kind).load(spec, info)
            # Two, since one would hide a head that returns a single number.
            units = [np.eye(1, loaded[n][0], dtype=np.float16).repeat(2, 0) for n in spec.reads()]
            apply_head(head, spec, units)
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
    for weights in weights_of(recipe):
        path, sha256 = weights.path, weights.sha256
        if path is None or not _is_there(path) or not (sha256 or weights.program):
            continue
        try:
            checked_sha256(path, sha256, required=weights.program)
        except RecipeError as error:
            yield from (detail.within(weights.place) for detail in error.details)
