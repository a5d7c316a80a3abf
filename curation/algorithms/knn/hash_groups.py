"""Groups images by equal perceptual hashes, so that each hash is searched once.

The image with the smallest id stands for all of its role that have the hash.

Images that an earlier run joined with each other are old. A hash is new if an image that has it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.fixed_bytes import bytes_of, fixed_bytes
from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Bools
from curation.algorithms.knn.hash_parts import BITS, Hashes
from curation.engine.context import Context
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask, exchange_tables
from curation.engine.sorted_arrays import ranks_in_runs, run_starts
from curation.engine.units import StageOutput
from curation.store.fragment import Fragment

HASH_BYTES, ID_BYTES = BITS // 8, 32
HASHES_PER_PART = 2_000_000
"""Hashes that one task groups."""
ROWS_AT_ONCE = 250_000
"""Rows that a task reads and sends at once."""

HASH = pa.binary(HASH_BYTES)
IMAGE = pa.binary(ID_BYTES)
HASHED = pa.schema([("role", pa.int8()), ("hash", HASH), ("image", IMAGE), ("new", pa.bool_())])
"""Images with their hashes."""
GROUPED = pa.schema(
    [*HASHED, ("first", IMAGE), ("further", pa.list_(IMAGE)), ("replaced", pa.bool_())]
)
"""Images by hash and role. `first` is the smallest id with the hash; its row lists up to k further.
`new` says that the hash is new; `replaced`, that the image was the first of an old one that is new."""

Images = Mapping[str, Mapping[str, tuple[Fragment, Fragment]]]
"""Fragments of `images` and `scores` with the same rows, by role and by name."""


OldHashes = Collection[tuple[str, str, str]]
"""Role, and content of the fragments of `images` and `scores`, of images that were joined before."""


def contents_of(by_role: Images) -> frozenset[tuple[str, str, str]]:
    """Return what OldHashes says of images, once they are joined."""
    return frozenset(
        (role, images.content, scores.content)
        for role, named in by_role.items()
        for images, scores in named.values()
    )


def group_hashes(by_role: Images, k: int, context: Context, old: OldHashes = ()) -> list[Fragment]:
    """Return work tables of GROUPED, each with all images of some hashes.

    Args:
        by_role: the images. A number in a table is the place of a role among the sorted roles.
        k: further images of a hash that are listed.
        context: where workers run.
        old: images that were joined before.
    """
    tasks = [
        MapTask(read_hashed, {"role": number, "images": images, "scores": scores, "new": new})
        for number, (role, named) in enumerate(sorted(by_role.items()))
        for images, scores in named.values()
        for new in [(role, images.content, scores.content) not in old]
    ]
    rows = sum(images.rows for named in by_role.values() for images, _ in named.values())
    inputs = {"hashed": ExchangeInput(HASHED, tasks)}
    parts = max(1, -(-rows // HASHES_PER_PART))
    job = Exchange("hash groups", inputs, write_groups, parts, {"k": k})
    return exchange_tables(job, context)


def read_hashed(role: int, images: Fragment, scores: Fragment, new: bool) -> Iterator[pa.Table]:
    """Yield the images that have a hash, keyed by the hash."""
    hashes = scores.read(["phash"]).column("phash")
    table = images.read(["image_id"]).append_column("phash", hashes).drop_null()
    raw = b"".join(table.column("phash").to_pylist())
    values = np.frombuffer(raw, np.uint8).reshape(-1, HASH_BYTES)
    columns = [
        pa.array(np.full(len(table), role, np.int8)),
        fixed_bytes(values),
        fixed_bytes(to_ids(table.column("image_id"))),
        pa.repeat(new, len(table)),
    ]
    keys = pa.array(_hash_keys(values))
    yield pa.Table.from_arrays(columns, schema=HASHED).append_column(KEY, keys)


def _hash_keys(hashes: Hashes) -> npt.NDArray[np.uint64]:
    """Return one number for each hash, the same for equal ones, shape (n,)."""
    words = np.ascontiguousarray(hashes).view("<u8")
    keys = np.zeros(len(hashes), np.uint64)
    with np.errstate(over="ignore"):
        for column in range(words.shape[1]):
            keys = (keys ^ words[:, column]) * np.uint64(0x9E3779B97F4A7C15)
            keys ^= keys >> np.uint64(29)
    return keys


def write_groups(hashed: pa.Table, k: int) -> StageOutput:
    """Write GROUPED, sorted by hash, role and id.

    Args:
        hashed: all images of some hashes.
        k: further images of a hash that are listed.

    Yields:
        GROUPED.
    """
    role, new = hashed.column("role").to_numpy(), np.asarray(hashed.column("new"))
    hashes, ids = bytes_of(hashed, "hash"), bytes_of(hashed, "image")
    # An image that is old and new is old.
    order = np.lexsort((new, ids, role, hashes))
    order = order[run_starts(hashes[order], role[order], ids[order])]
    role, hashes, ids, new = role[order], hashes[order], ids[order], new[order]
    rank = ranks_in_runs(hashes, role)
    first = np.flatnonzero(rank == 0)
    size = np.diff(np.append(first, len(rank)))
    listed = np.zeros(len(rank) + 1, np.int32)
    listed[1:][first] = np.minimum(size - 1, k)
    further = pa.ListArray.from_arrays(
        np.cumsum(listed, dtype=np.int32), fixed_bytes(ids[(rank > 0) & (rank <= k)])
    )
    in_new_hash = _in_new_hash(hashes, new)
    columns = [
        pa.array(role),
        fixed_bytes(hashes),
        fixed_bytes(ids),
        pa.array(in_new_hash),
        fixed_bytes(np.repeat(ids[first], size)),
        further,
        pa.array(_first_of_old(hashes, role, new) & in_new_hash),
    ]
    yield pa.RecordBatch.from_arrays(columns, schema=GROUPED)
    return None


def _in_new_hash(hashes: npt.NDArray[np.bytes_], new: Bools) -> Bools:
    """Return whether any image with the hash of a row is new, in any role; hashes are sorted, (n,)."""
    number = np.cumsum(run_starts(hashes)) - 1
    any_new: Bools = np.bincount(number, weights=new)[number] > 0
    return any_new


def _first_of_old(hashes: npt.NDArray[np.bytes_], role: npt.NDArray[np.int8], new: Bools) -> Bools:
    """Return which rows are the first old one of their hash and role; rows are sorted by both, (n,)."""
    is_first = np.zeros(len(new), bool)
    old = np.flatnonzero(~new)
    is_first[old[run_starts(hashes[old], role[old])]] = True
    return is_first


def first_images(grouped: Fragment) -> Iterator[pa.RecordBatch]:
    """Yield the first image of each hash."""
    for batch in grouped.batches(rows=ROWS_AT_ONCE):
        yield batch.filter(pc.equal(batch.column("image"), batch.column("first")))


def hashes_of(table: pa.RecordBatch | pa.Table) -> Hashes:
    """Return the column `hash`, shape (n, 32)."""
    return bytes_of(table, "hash").view(np.uint8).reshape(-1, HASH_BYTES)
