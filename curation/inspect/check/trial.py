"""Fetches and screens a sample of local pictures, as a run would, in a folder that is deleted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.engine.contract import contract
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.units import Output, Unit, run_unit
from curation.flow import plan
from curation.inspect.check.survey import Survey, is_local
from curation.media.web.urls import UrlRules
from curation.recipe import Recipe
from curation.stages.fetch.params import FetchStep
from curation.stages.ingest.formats.source_row import STAGED_ONLY, SourceRow, stage_rows
from curation.stages.ingest.sources.source_file import SourceFile
from curation.stages.select.params import Threshold
from curation.store.fragment import Fragment
from curation.store.store import Store

PICTURES = 200
"""Pictures of the sample."""


@dataclass(frozen=True)
class Trial:
    """What a sample of local pictures shows.

    Attributes:
        pictures: size of the sample.
        failed: pictures that cannot be stored, by reason.
        stored_bytes: mean size of a stored picture; 0 without any.
        scores: the scores of the stored pictures by name.
    """

    pictures: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    stored_bytes: float = 0.0
    scores: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def stored(self) -> int:
        """Pictures that could be stored."""
        return self.pictures - sum(self.failed.values())

    def passing(self, score: str, threshold: Threshold) -> int | None:
        """Return how many stored pictures pass a threshold; None if its score was not computed."""
        values = self.scores.get(score)
        return None if values is None else sum(map(threshold.passes, values))


def try_pictures(
    recipe: Recipe,
    surveys: Sequence[Survey],
    most: int = PICTURES,
    roles: Collection[str] = ("pool",),
) -> Trial:
    """Fetch and screen a seeded sample of the local pictures of some roles. Nothing is requested.

    Args:
        recipe: the recipe.
        surveys: of its sources.
        most: pictures of the sample.
        roles: of the sources whose pictures are tried.

    Raises:
        RecipeError: a list of words or a detector cannot be loaded.
        StoreError: a file of a source vanished.
    """
    if recipe.fetch.pixels == "none":
        return Trial()
    # Sources may share files, and a picture is tried once.
    by_place = {
        (file.display_name, row.member or row.path): (file, row)
        for survey in surveys
        if survey.source.role in roles
        for file, row in survey.read
        if is_local(file, row) and not row.bad
    }
    rows = list(by_place.values())
    places = sorted(random.Random(0).sample(range(len(rows)), min(most, len(rows))))
    sample = [rows[place] for place in places]
    if not sample:
        return Trial()
    with TemporaryDirectory(prefix="curation-check-") as folder:
        return _tried(recipe, sample, Store(folder))


def _tried(recipe: Recipe, sample: Sequence[tuple[SourceFile, SourceRow]], store: Store) -> Trial:
    # Only this needs what downloads and decodes; a run asks for warnings alone.
    from curation.stages.fetch.faces import with_checksum
    from curation.stages.fetch.reuse import EarlierImages
    from curation.stages.fetch.stage import fetch
    from curation.stages.fetch.units import Prepared
    from curation.stages.screen.stage import screen

    steps = {step.name: step for step in plan(recipe, until="screen")}
    params = steps["fetch"].params_as(FetchStep)
    prepared = Prepared(EarlierImages(), with_checksum(params.faces))
    pairs = _pairs(sample, store)
    arguments = {"pairs": pairs, "rules": UrlRules(), "prepared": prepared, "params": params}
    images = _computed(
        "images", fetch, arguments, store, work_folder="work/images/sample", waits=True
    )
    scored = _computed("scores", screen, {"images": images, "params": recipe.screen}, store)
    fetched = images.read(["status", "reason", "image"])
    stored = fetched.filter(pc.equal(fetched.column("status"), "ok"))
    failed = fetched.filter(pc.not_equal(fetched.column("status"), "ok"))
    table = scored.read().filter(pc.equal(fetched.column("status"), "ok"))
    sizes = pc.sum(pc.binary_length(stored.column("image"))).as_py() or 0
    return Trial(
        pictures=pairs.rows,
        failed=dict(Counter(failed.column("reason").to_pylist())),
        stored_bytes=sizes / max(1, stored.num_rows),
        scores={n: _scores(table.column(n)) for n in recipe.screen.scores()},
    )


def _scores(column: pa.ChunkedArray) -> list[Any]:
    """Return the scores of a column for `Threshold.passes`."""
    if column.type != pa.float32():
        return list(column.to_pylist())
    return [None if value is None else np.float32(value) for value in column.to_pylist()]


def _pairs(sample: Sequence[tuple[SourceFile, SourceRow]], store: Store) -> Fragment:
    """Write the sampled rows as a fragment of `pairs`."""
    writer = FragmentWriter(store, "tables/pairs/data", "sample", contract("pairs"))
    for _, of_file in groupby(sample, key=lambda item: id(item[0])):
        members = list(of_file)
        for batch in stage_rows(members[0][0], (row for _, row in members), UrlRules()):
            writer.write(batch.drop_columns(list(STAGED_ONLY)))
    return Fragment(store, writer.close("tables/pairs", "sample", {}))


def _computed(
    table: str, function: Any, arguments: Mapping[str, Any], store: Store, **options: Any
) -> Fragment:
    output = Output(table, f"tables/{table}", f"tables/{table}/data", "sample")
    unit = Unit("sample", function, arguments, {table: output}, attempt="check", **options)
    return Fragment(store, run_unit(store, unit)[table])
