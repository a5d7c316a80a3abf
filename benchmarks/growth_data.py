"""The recipe of `benchmarks.growth`, and the tables that its stages read.

Every twentieth image of the pool is a copy of the nineteenth before it: its vector has a cosine of
about 0.95 with that of the original, and its hash differs in at most 24 bits. Held-out images are such
copies of the first images of the pool. One image of the pool in a hundred has the hash of one picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.planted import Halves, planted_vectors
from benchmarks.planted_hashes import HashStatistics, changed, draw
from benchmarks.tables import commit_manifest, hand_made
from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.arrays.vectors import vector_array
from curation.algorithms.knn.hash_parts import Hashes
from curation.engine.contract import contract
from curation.engine.fragment_writer import FragmentWriter
from curation.recipe import Recipe, parse_recipe
from curation.store.manifest import FragmentRecord, content_of_fragments, sum_counts
from curation.store.store import Store

DIM = 256
INPUT_TABLES = ("images", "scores", "embeddings.semantic", "head_scores")
COPY_EVERY = 20
"""Rows of the pool of which the last is a copy of the first."""
SAME_PICTURE = 100
"""Rows of the pool of which one has the hash of one picture."""
MAX_DISTANCE, LEAST_COSINE = 24, 0.93
ROLES = ("pool", "seed", "held_out")
FIRST_SEED = 10**9
"""Number of the first seed in the endless list of planted vectors, whose first ones are the pool."""


@dataclass(frozen=True)
class Scale:
    """Rows per fragment, seeds, held-out images, numbers of clusters and lists, images to draw.

    There are at most as many held-out images as rows in a fragment.
    """

    fragment_rows: int = 100_000
    seeds: int = 100_000
    held_out: int = 10_000
    levels: tuple[int, int] = (1024, 64)
    lists: int = 4096
    target: int = 20_000


TINY = Scale(fragment_rows=2_000, seeds=50, held_out=100, levels=(32, 8), lists=32, target=200)


def growth_recipe(rows: int, scale: Scale) -> Recipe:
    """Return the recipe whose stages run on a pool of `rows` images."""
    source = {"format": "parquet", "path": "unused", "columns": {"image": "i"}}
    arms = [
        {"name": "near", "seeds": "seeds", "strategy": "sample", "k": 8},
        {"name": "around", "seeds": "seeds", "strategy": "cluster", "per_cluster": 50}
        | {"expected_clusters": scale.levels[0]},
        {"name": "even", "strategy": "hierarchical", "target": scale.target},
    ]
    return parse_recipe(
        {
            "name": "growth",
            "sources": [
                {"name": "web", "role": "pool", "count": rows, **source},
                {"name": "seeds", "role": "seed", "count": scale.seeds, **source},
                {"name": "tests", "role": "held_out", "count": scale.held_out, **source},
            ],
            "dedup": {
                "perceptual": {"max_distance": MAX_DISTANCE},
                "near": {"encoder": "semantic", "k": 64, "floor": 0.9, "at_least": LEAST_COSINE},
                "held_out": {"at_least": LEAST_COSINE},
                "verify": None,
            },
            "cluster": {"levels": list(scale.levels), "iterations": 10},
            "match": {"index": "ivf_flat", "nlist": scale.lists, "nprobe": 32},
            "retrieve": arms,
            "assemble": {"pixels": False},
            "ingest": {"rows_per_fragment": scale.fragment_rows},
        }
    )


def fill(store: Store, rows: int, scale: Scale, statistics: HashStatistics) -> None:
    """Commit the tables that the stages read, with planted vectors and hashes."""
    records: dict[str, list[FragmentRecord]] = {table: [] for table in INPUT_TABLES}
    for role, source, count in (
        ("pool", "web", rows),
        ("seed", "seeds", scale.seeds),
        ("held_out", "tests", scale.held_out),
    ):
        for start in range(0, count, scale.fragment_rows):
            size = min(scale.fragment_rows, count - start)
            name = f"{source}-{start // scale.fragment_rows:05d}"
            vectors, hashes = _content(role, (start, size), scale, statistics)
            for table, batch in _batches(role, source, start, vectors, hashes):
                records[table].append(_write(store, table, name, batch))
    for table, entries in records.items():
        counts = sum_counts(record.counts for record in entries)
        version = content_of_fragments(entries)
        commit_manifest(store, hand_made(table, version, entries, counts))


def _write(store: Store, table: str, name: str, batch: pa.RecordBatch) -> FragmentRecord:
    writer = FragmentWriter(store, f"tables/{table}/data", name, contract(table))
    writer.write(batch)
    return writer.close(f"tables/{table}", name, {})


def _batches(
    role: str, source: str, start: int, vectors: Halves, hashes: Hashes
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yield the rows of a fragment for each input table.

    Args:
        role: role of the source.
        source: its name.
        start: number of the first row within the role.
        vectors: vectors of the rows, (n, DIM).
        hashes: hashes of the rows, (n, 32).
    """
    size = len(vectors)
    numbers = np.arange(start, start + size)
    ids = from_ids(image_ids(role, start, size))
    sides = pa.array((256 + numbers % 1024).astype(np.int32))
    common = {"pair_id": ids, "image_id": ids}
    rows = {
        "role": pa.array([role] * size),
        "source": pa.array([source] * size),
        "url": pa.array([f"https://host{n % 9973}.example/{n}.jpg" for n in numbers.tolist()]),
        "caption": pa.array([f"picture {n} of a planted pool" for n in numbers.tolist()]),
        "status": pa.array(["ok"] * size),
        "bytes": pa.array(10_000 + numbers % 90_001),
    } | dict.fromkeys(("original_width", "original_height", "width", "height"), sides)
    phash = pa.array([row.tobytes() for row in hashes], pa.binary())
    columns = {
        "images": rows,
        "scores": {"phash": phash},
        "embeddings.semantic": {"vector": vector_array(vectors)},
        "head_scores": {},
    }
    for table in INPUT_TABLES:
        yield table, _with_nulls(table, common | columns[table], size)


def _content(
    role: str, span: tuple[int, int], scale: Scale, statistics: HashStatistics
) -> tuple[Halves, Hashes]:
    """Return vectors (n, DIM) and hashes (n, 32) of the rows of a fragment.

    Args:
        role: role of the rows.
        span: number of the first row within the role, and number of rows.
        scale: of the whole.
        statistics: of hashes.
    """
    start, size = span
    rng = np.random.default_rng([ROLES.index(role), start])
    if role == "held_out":
        vectors, hashes = _content("pool", (0, scale.fragment_rows), scale, statistics)
        return _noisy(vectors[:size], rng), changed(hashes[:size], rng, MAX_DISTANCE)
    first = start if role == "pool" else FIRST_SEED + start
    vectors, hashes = planted_vectors(size, DIM, seed=0, first=first), draw(size, statistics, rng)
    if role == "pool":
        copies = np.arange(COPY_EVERY - 1, size, COPY_EVERY)
        originals = copies - (COPY_EVERY - 1)
        hashes[rng.choice(size, size // SAME_PICTURE, replace=False)] = statistics.one_picture
        vectors[copies] = _noisy(vectors[originals], rng)
        hashes[copies] = changed(hashes[originals], rng, MAX_DISTANCE)
    return vectors, hashes


def _noisy(vectors: Halves, rng: np.random.Generator) -> Halves:
    """Return copies of unit vectors, at a cosine of about 0.95."""
    copies = vectors + 0.02 * rng.normal(size=vectors.shape)
    unit: Halves = (copies / np.linalg.norm(copies, axis=1, keepdims=True)).astype(np.float16)
    return unit


def image_ids(role: str, first: int, count: int) -> npt.NDArray[np.bytes_]:
    """Return distinct ids (count,) as S32, spread as digests are, of rows of a role."""
    numbers = np.arange(first, first + count, dtype=np.uint64)
    spread = numbers * np.uint64(0x9E3779B97F4A7C15)
    ending = f"{ROLES.index(role):016x}"
    return np.char.add(np.char.mod("%016x", spread), ending).astype("S32")


def _with_nulls(table: str, columns: dict[str, pa.Array], count: int) -> pa.RecordBatch:
    """Return all columns of a table; those that the stages do not read are null."""
    schema = contract(table).arrow_schema()
    arrays = [columns.get(field.name, pa.nulls(count, field.type)) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, names=schema.names)
