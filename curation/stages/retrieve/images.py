"""The images that arms may claim: what is known of each, and the row that represents it.

Rows with the same image meet in one part. All tables of claims are cut by image in the same way, so
that part p of any of them needs part p of the images alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import Ids, RowNumbers
from curation.algorithms.kmeans.levels import at_level
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask
from curation.engine.exchange_runner import WorkTable
from curation.engine.shared_arrays import Shared, array_of
from curation.engine.sorted_arrays import positions_in, run_starts
from curation.engine.units import StageOutput, empty_batch
from curation.media.web.urls import host_in
from curation.store.fragment import Fragment

POOL = -1
"""In the column `set`: an image of the pool. Other values number the seed sets of the arms."""
NO_ROW = -1
"""In the column `fragment`: no row may represent the image."""
ELIGIBLE_ROWS = pa.schema(
    [
        ("fragment", pa.int32()),
        ("row", pa.int32()),
        ("set", pa.int16()),
        ("image_id", pa.string()),
        ("pair_id", pa.string()),
        ("cluster_id", pa.int32()),
        ("similarity", pa.float32()),
        ("weight", pa.float64()),
        ("host", pa.string()),
    ]
)
IMAGES = pa.schema(
    [
        ("image_id", pa.string()),
        ("set", pa.int16()),
        ("cluster_id", pa.int32()),
        ("similarity", pa.float32()),
        ("pair_id", pa.string()),
        ("fragment", pa.int32()),
        ("balance_cluster", pa.int32()),
        ("weight", pa.float64()),
        ("host", pa.string()),
    ]
)
"""One row for each image of the pool, and of each seed set, by image and set. The last five columns
describe the row that represents the image, the same for all rows of an image; `balance_cluster` is its
cluster at the level of `balance`, null for none."""


@dataclass(frozen=True)
class RowSources:
    """Which rows are read, and what else of them.

    Attributes:
        sets: seed sets of the arms, sorted.
        claimed_sets: those whose images an arm claims; a row of such a set goes before one of the pool,
            because curators wrote its caption.
        weights: weight of each source, for `balance`; other sources have 1.
        with_host: whether hosts are read.
    """

    sets: tuple[str, ...]
    claimed_sets: tuple[str, ...]
    weights: tuple[tuple[str, float], ...]
    with_host: bool


@dataclass(frozen=True)
class AlignedFragments:
    """Fragments of one name.

    Attributes:
        number: among all fragments.
        eligible: fragment of `eligible`.
        assignments: fragment of `assignments`.
        images: fragment of `images`, from which hosts are read.
    """

    number: int
    eligible: Fragment
    assignments: Fragment
    images: Fragment

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.eligible.rows


def image_keys(ids: Ids) -> npt.NDArray[np.uint64]:
    """Return the keys by which images go to parts, (n,)."""
    return seeded_keys(ids, "retrieve")


def images_exchange(
    groups: Sequence[Sequence[AlignedFragments]],
    sources: RowSources,
    parents: Sequence[Shared],
    parts: int,
) -> Exchange:
    """Return the exchange that computes IMAGES.

    Args:
        groups: all fragments; one task reads those of a group.
        sources: which rows are read, and what else of them.
        parents: of clusters, up to the level of `balance`.
        parts: number of parts.
    """
    tasks = [MapTask(read_rows, {"fragments": group, "sources": sources}) for group in groups]
    rows = {"rows": ExchangeInput(ELIGIBLE_ROWS, tasks)}
    arguments = {"sources": sources, "parents": list(parents)}
    return Exchange("images", rows, distinct_images, parts, arguments)


def read_rows(fragments: Sequence[AlignedFragments], sources: RowSources) -> Iterator[pa.Table]:
    """Yield the ELIGIBLE_ROWS of some fragments, keyed by image."""
    numbers = {name: number for number, name in enumerate(sources.sets)}
    for aligned in fragments:
        rows = aligned.eligible.read(["image_id", "pair_id", "role", "source", "status"])
        if not len(rows):
            continue
        role, source = (rows.column(name)[0].as_py() for name in ("role", "source"))
        number = POOL if role == "pool" else numbers.get(source) if role == "seed" else None
        if number is not None:
            yield _eligible_rows(
                aligned, rows, number, dict(sources.weights).get(source, 1.0), sources
            )


def _eligible_rows(
    aligned: AlignedFragments, rows: pa.Table, number: int, weight: float, sources: RowSources
) -> pa.Table:
    row = pa.array(np.flatnonzero(rows.column("status").to_numpy() == "eligible").astype(np.int32))
    clusters = aligned.assignments.read(["cluster_id", "similarity"]).take(row)
    count = len(row)
    hosts: list[str | None] | pa.Array = pa.nulls(count, pa.string())
    if sources.with_host:
        urls = aligned.images.read(["url"]).column("url").take(row).to_pylist()
        hosts = [host_in(url) if url is not None else None for url in urls]
    ids = rows.column("image_id").take(row)
    columns = {
        "fragment": np.full(count, aligned.number, np.int32),
        "row": row,
        "set": np.full(count, number, np.int16),
        "image_id": ids,
        "pair_id": rows.column("pair_id").take(row),
        "cluster_id": pc.fill_null(clusters.column("cluster_id"), -1),
        "similarity": clusters.column("similarity"),
        "weight": np.full(count, weight),
        "host": hosts,
    }
    table = pa.table(columns, schema=ELIGIBLE_ROWS)
    return table.append_column(KEY, pa.array(image_keys(to_ids(ids))))


def distinct_images(rows: pa.Table, sources: RowSources, parents: Sequence[Shared]) -> StageOutput:
    """Find the different images of one part.

    Args:
        rows: all ELIGIBLE_ROWS of some images.
        sources: see `RowSources`.
        parents: of clusters, up to the level of `balance`.

    Yields:
        IMAGES.

    Returns:
        `images`: number of images by the number of their set.
    """
    ids, sets = to_ids(rows.column("image_id")), _numbers(rows, "set")
    place = _numbers(rows, "row"), _numbers(rows, "fragment")
    order = np.lexsort((*place, sets, ids))
    first = order[run_starts(ids[order], sets[order])]
    representing = _representing_rows(rows, ids, sets, sources)
    position, known = positions_in(ids[first], ids[representing])
    row = np.append(representing, 0)[position]
    fragments = np.append(place[1], NO_ROW)[row]
    clusters = np.append(rows.column("cluster_id").to_numpy(), np.int32(-1))[row]
    clusters = at_level(len(parents), clusters, tuple(map(array_of, parents)))
    columns = {
        "image_id": from_ids(ids[first]),
        "set": sets[first],
        "cluster_id": rows.column("cluster_id").take(pa.array(first)),
        "similarity": rows.column("similarity").take(pa.array(first)),
        "pair_id": rows.column("pair_id").take(pa.array(row, mask=~known)),
        "fragment": np.where(known, fragments, NO_ROW),
        "balance_cluster": pa.array(clusters, mask=~known | (clusters < 0)),
        "weight": rows.column("weight").take(pa.array(row, mask=~known)),
        "host": rows.column("host").take(pa.array(row, mask=~known)),
    }
    yield empty_batch(IMAGES)
    yield from pa.table(columns, schema=IMAGES).to_batches()
    numbers, counts = np.unique(sets[first], return_counts=True)
    return {"images": {str(n): c for n, c in zip(numbers.tolist(), counts.tolist(), strict=True)}}


def _numbers(table: pa.Table, column: str) -> npt.NDArray[np.int64]:
    return np.asarray(table.column(column), np.int64)


def _representing_rows(
    rows: pa.Table, ids: Ids, sets: npt.NDArray[np.int64], sources: RowSources
) -> RowNumbers:
    """Return the row that represents each image that has one, by image id.

    Rows of claimed seed sets go before those of the pool, then the smallest pair_id counts.
    """
    claimed = [sources.sets.index(name) for name in sources.claimed_sets]
    usable = np.flatnonzero((sets == POOL) | np.isin(sets, claimed))
    pair_ids = rows.column("pair_id").take(pa.array(usable)).to_pylist()
    # UTF-8 has the order of code points.
    keys = np.array([pair_id.encode() for pair_id in pair_ids], "S")
    place = _numbers(rows, "row")[usable], _numbers(rows, "fragment")[usable]
    order = np.lexsort((*place, keys, sets[usable] == POOL, ids[usable]))
    representing = usable[order]
    return representing[run_starts(ids[representing])]


def images_of_claims(claims: pa.Table, images: WorkTable) -> pa.Table:
    """Return the IMAGES that are claimed, one row for each claim."""
    known = images.read()
    ids = to_ids(known.column("image_id"))
    # An image has several rows if several sets hold it; they say the same of its representing row.
    return known.take(pa.array(np.searchsorted(ids, to_ids(claims.column("image_id")))))
