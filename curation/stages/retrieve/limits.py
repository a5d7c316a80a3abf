"""Places for which claims compete: the first claims of each group stay, in an order of the whole.

Claims stay where they are, in parts by image. Only the keys by which they are ordered travel: they are
sorted over all parts (a sample of the keys says where parts begin), so that a group may be of any size.
Then each part of claims gets the numbers of those that found no place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.fixed_bytes import bytes_of, fixed_bytes
from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask
from curation.engine.exchange_runner import ExchangeRunner, WorkTable
from curation.engine.sorted_arrays import ranks_in_runs
from curation.engine.units import StageOutput, empty_batch
from curation.stages.retrieve.claims import CLAIMS, Arms, claim_counts, sorted_claims
from curation.stages.retrieve.images import images_of_claims

ENTRIES = pa.schema(
    [
        ("sort_key", pa.binary(32)),
        ("image_id", pa.binary(32)),
        ("seed_image_id", pa.binary(32)),
        ("rank", pa.int32()),
        ("at_most", pa.int64()),
        ("part", pa.int32()),
        ("row", pa.int32()),
    ]
)
"""What competes. `sort_key` has 16 bytes for the group and 16 for the order; `part` and `row` say which
claim it is."""
GROUP_BYTES = 16
SORTED_ENTRIES = pa.schema(
    [
        ("group", pa.binary(GROUP_BYTES)),
        ("at_most", pa.int64()),
        ("part", pa.int32()),
        ("row", pa.int32()),
    ]
)
WITHOUT_PLACE = pa.schema([("row", pa.int32())])
SAMPLE = pa.schema([("sort_key", pa.binary(32))])
SAMPLED_PER_PART = 64
"""Sampled keys for each part of sorted entries: parts are then of about the same size."""
ROWS_AT_ONCE = 65_536
SortKeys = npt.NDArray[np.bytes_]
"""Shape (n,), dtype S32."""


class Entries(NamedTuple):
    """What competes in a part of claims; every array has n rows.

    Attributes:
        row: number of the claim within the part, (n,).
        group: two numbers for each group, (n, 2).
        order: two numbers by which the claims of a group are ordered, (n, 2).
        at_most: number of places in the group, (n,).
    """

    row: npt.NDArray[np.int64]
    group: npt.NDArray[np.uint64]
    order: npt.NDArray[np.uint64]
    at_most: npt.NDArray[np.int64]


class Limit(Protocol):
    """One kind of places.

    Attributes:
        label: says which, in progress bars and memos.
        of_balance: it is one of `balance`, for which a claim that is dropped still decides the place of
            its image.
    """

    of_balance: ClassVar[bool]

    @property
    def label(self) -> str: ...

    def entries(self, claims: pa.Table, images: pa.Table) -> Entries:
        """Return what competes.

        Args:
            claims: a part of CLAIMS.
            images: IMAGES that are claimed, one row for each claim.
        """

    def dropped(self, claims: pa.Table, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which claims go because some claims found no place, (claims,)."""


@dataclass(frozen=True)
class ClaimedParts:
    """All parts of the claims.

    Attributes:
        images: parts of IMAGES.
        claims: parts of CLAIMS, cut in the same way.
        arms: of the recipe.
    """

    images: Sequence[WorkTable]
    claims: Sequence[WorkTable]
    arms: Arms

    def count(self, name: str) -> int:
        """Return the sum over all parts of a measurement of `claim_counts`."""
        return sum(part.stats[name] for part in self.claims)

    def count_by(self, name: str) -> dict[str, int]:
        """Return the sums over all parts of a measurement by arm or by seed set."""
        names = self.claims[0].stats[name]
        return {n: sum(part.stats[name][n] for part in self.claims) for n in names}


def apply_limit(
    parts: ClaimedParts, limit: Limit, runner: ExchangeRunner, rows_per_part: int
) -> ClaimedParts:
    """Return the claims that find a place, and those that do not compete."""
    claims = [
        {"claims": claims, "images": images, "limit": limit, "part": part}
        for part, (claims, images) in enumerate(zip(parts.claims, parts.images, strict=True))
    ]
    rows = sum(parts.count_by("claims").values())
    number = max(1, -(-rows // rows_per_part))
    cuts = _cuts(limit, claims, number, SAMPLED_PER_PART * number / max(1, rows), runner)
    tasks = [MapTask(read_entries, {**named, "cuts": cuts}) for named in claims]
    entries = {"entries": ExchangeInput(ENTRIES, tasks)}
    in_order = runner.exchange(Exchange(f"order of {limit.label}", entries, sort_entries, number))
    without_place = [
        MapTask(read_without_place, {"entries": table, "earlier": earlier})
        for table, earlier in zip(in_order, earlier_in_group(in_order), strict=True)
    ]
    job = Exchange(
        limit.label,
        {"without_place": ExchangeInput(WITHOUT_PLACE, without_place)},
        keep_claims,
        len(parts.claims),
        {"limit": limit, "arms": parts.arms},
        part_arguments=[{"claims": claims} for claims in parts.claims],
    )
    return ClaimedParts(parts.images, runner.exchange(job), parts.arms)


def _cuts(
    limit: Limit,
    claims: Sequence[Mapping[str, Any]],
    parts: int,
    share: float,
    runner: ExchangeRunner,
) -> WorkTable:
    """Return SAMPLE of the sort keys with which new parts begin, at most (parts - 1), in order.

    They are in a work table, because each task needs them.

    Args:
        limit: what the claims compete for.
        claims: arguments of the tasks that read what competes.
        parts: number of parts.
        share: of what competes, from which they are chosen.
        runner: computes the samples of the parts.
    """
    keys = np.empty(0, "S32")
    if parts > 1:
        arguments = [{**named, "share": share} for named in claims]
        tables = runner.compute(f"sample of {limit.label}", sample_keys, arguments)
        keys = np.sort(np.concatenate([bytes_of(t.read(), "sort_key") for t in tables]))
    if len(keys):
        keys = keys[np.arange(1, parts) * len(keys) // parts]
    (cuts,) = runner.compute(f"cuts of {limit.label}", write_keys, [{"keys": keys}])
    return cuts


def write_keys(keys: SortKeys) -> StageOutput:
    """Yield SAMPLE of some sort keys."""
    yield pa.RecordBatch.from_arrays([fixed_bytes(keys)], schema=SAMPLE)
    return None


def sample_keys(
    claims: WorkTable, images: WorkTable, limit: Limit, part: int, share: float
) -> StageOutput:
    """Yield SAMPLE: the sort keys of a random share of what competes."""
    keys, table = _entries(claims, images, limit, part)
    random = seeded_keys(bytes_of(table, "image_id"), limit.label)
    sampled = keys[random <= min(1.0, share) * 2.0**64]
    yield pa.RecordBatch.from_arrays([fixed_bytes(sampled)], schema=SAMPLE)
    return None


def _entries(
    claims: WorkTable, images: WorkTable, limit: Limit, part: int
) -> tuple[SortKeys, pa.Table]:
    """Return what competes in a part: sort keys, and ENTRIES."""
    rows = claims.read()
    competing = limit.entries(rows, images_of_claims(rows, images))
    words = np.concatenate([competing.group, competing.order], axis=1).astype(">u8")
    keys = np.ascontiguousarray(words).view("S32").ravel()
    taken = rows.take(pa.array(competing.row))
    seeds = np.asarray(taken.column("seed_image_id").fill_null(""), dtype="S32")
    columns = {
        "sort_key": fixed_bytes(keys),
        "image_id": fixed_bytes(to_ids(taken.column("image_id"))),
        "seed_image_id": fixed_bytes(seeds),
        "rank": taken.column("rank").fill_null(0),
        "at_most": competing.at_most,
        "part": np.full(len(keys), part, np.int32),
        "row": competing.row.astype(np.int32),
    }
    return keys, pa.table(columns, schema=ENTRIES)


def read_entries(
    claims: WorkTable, images: WorkTable, limit: Limit, part: int, cuts: WorkTable
) -> Iterator[pa.Table]:
    """Yield ENTRIES, keyed by the number of their part in the order."""
    keys, table = _entries(claims, images, limit, part)
    # Only what has the same sort key may be ordered by anything else, and it goes to one part.
    number = np.searchsorted(bytes_of(cuts.read(), "sort_key"), keys, "right")
    yield table.append_column(KEY, pa.array(number.astype(np.uint64)))


def sort_entries(entries: pa.Table) -> StageOutput:
    """Sort what competes.

    Args:
        entries: all ENTRIES of a range of sort keys.

    Yields:
        SORTED_ENTRIES.

    Returns:
        `first` and `last`: the first and the last group, as hexadecimal digits, each with the number of
        its entries; empty if there are no entries.
    """
    keys, ids, seeds = (bytes_of(entries, name) for name in ENTRIES.names[:3])
    order = np.lexsort((entries.column("rank").to_numpy(), seeds, ids, keys))
    entries = entries.take(pa.array(order))
    group = _groups(keys[order])
    yield empty_batch(SORTED_ENTRIES)
    columns = [fixed_bytes(group)]
    columns += [entries.column(name) for name in SORTED_ENTRIES.names[1:]]
    yield from pa.table(columns, names=SORTED_ENTRIES.names).to_batches(ROWS_AT_ONCE)
    return {"first": _group_and_size(group, group[:1]), "last": _group_and_size(group, group[-1:])}


def _group_and_size(groups: npt.NDArray[np.bytes_], one: npt.NDArray[np.bytes_]) -> list[Any]:
    """Return one of some groups as hexadecimal digits, and how often it comes; empty for none."""
    return [one.tobytes().hex(), int((groups == one).sum())] if len(one) else []


def earlier_in_group(parts: Sequence[WorkTable]) -> list[int]:
    """Return for each part of sorted entries how many of its first group are in earlier parts."""
    earlier, group, count = [], "", 0
    for part in parts:
        first, last = part.stats["first"], part.stats["last"]
        before = count if first and first[0] == group else 0
        earlier.append(before)
        if last:
            group, count = last[0], last[1] + (before if first[0] == last[0] else 0)
    return earlier


def read_without_place(entries: WorkTable, earlier: int) -> Iterator[pa.Table]:
    """Yield WITHOUT_PLACE, keyed by the part of the claim.

    Args:
        entries: a part of SORTED_ENTRIES.
        earlier: number of entries of its first group in the parts before.
    """
    rows = entries.read()
    group = bytes_of(rows, "group")
    rank = ranks_in_runs(group)
    rank[group == group[:1]] += earlier
    rows = rows.filter(pa.array(rank >= rows.column("at_most").to_numpy()))
    key = pa.array(rows.column("part").to_numpy().astype(np.uint64))
    yield rows.select(["row"]).append_column(KEY, key)


def keep_claims(
    without_place: pa.Table, claims: WorkTable, limit: Limit, arms: Arms
) -> StageOutput:
    """Drop the claims of one part that found no place.

    Args:
        without_place: WITHOUT_PLACE of the part.
        claims: CLAIMS of the part.
        limit: the kind of places.
        arms: of the recipe.

    Yields:
        CLAIMS.

    Returns:
        As `claim_counts`.
    """
    rows = claims.read()
    dropped = limit.dropped(rows, np.asarray(without_place.column("row"), np.int64))
    kept = rows.filter(pa.array(~dropped))
    if not limit.of_balance:
        return (yield from sorted_claims(kept, arms))
    yield empty_batch(CLAIMS)
    yield from kept.combine_chunks().to_batches()
    return claim_counts(kept, arms)


def _groups(keys: SortKeys) -> npt.NDArray[np.bytes_]:
    """Return the groups of some sort keys, (n,), dtype S16."""
    return (
        np.ascontiguousarray(keys.view("S1").reshape(-1, 32)[:, :GROUP_BYTES]).view("S16").ravel()
    )
