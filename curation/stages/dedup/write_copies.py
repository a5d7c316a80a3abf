"""What is written of a decision: rows of `copies`, and the books."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids
from curation.engine.contract import contract
from curation.stages.dedup.components import LARGEST
from curation.stages.dedup.decide import HOW, NONE, STANDS, Decided
from curation.stages.dedup.members import copied, members
from curation.stages.dedup.params import DedupParams
from curation.stages.dedup.rows import Fetched, Ints

SCHEMA = contract("copies").arrow_schema()


def outcome(rows: Fetched, decided: Decided, bounds: Ints) -> Iterator[pa.RecordBatch]:
    """Yield a batch of `copies` for each stretch of rows between two of the bounds, which begin with 0
    and end with the number of rows."""
    listed = copied(rows, *decided.repeats(rows))
    lists = members(rows, listed, bounds, SCHEMA.field("copies").type)
    for (first, last), own in zip(pairwise(bounds.tolist()), lists, strict=True):
        columns = _columns(rows, decided, np.arange(first, last)) | {"copies": own}
        yield pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _columns(rows: Fetched, decided: Decided, part: Ints) -> dict[str, pa.Array]:
    """Return the columns of some rows, all but the list of copies."""
    pair_id = rows.pair_ids(part)
    standing = pair_id.copy()
    stands = decided.stands[part]
    elsewhere = np.flatnonzero(stands != part)
    if len(elsewhere):
        standing[elsewhere] = rows.pair_ids(stands[elsewhere])
    leak, fragment = decided.leak, rows.fragment[part]

    def ids(of: Ints) -> pa.Array:
        return from_ids(rows.images[of[part]], known=of[part] != NONE)

    return {
        "pair_id": from_ids(pair_id),
        "image_id": from_ids(rows.images[part]),
        "role": pa.array(rows.roles[fragment], pa.string()),
        "source": pa.array(rows.sources[fragment], pa.string()),
        "component_id": ids(decided.component),
        "representative_id": ids(decided.stands),
        "representative_pair_id": from_ids(standing),
        "method": _text(HOW, decided.method[part]),
        "similarity": _known(decided.similarity[part]),
        "evidence_id": ids(decided.evidence),
        "contaminated_by": ids(leak.by),
        "contaminated_via": ids(leak.via),
        "contaminated_set": _text(rows.held_out, leak.set[part]),
        "contamination_method": _text(HOW, leak.method[part]),
        "contamination_similarity": _known(leak.similarity[part]),
        "copy_of_seed": ids(decided.seed),
    }


def _known(values: npt.NDArray[np.float32]) -> pa.Array:
    return pa.array(values, pa.float32(), mask=np.isnan(values))


def _text(names: list[str], numbers: npt.NDArray[Any]) -> pa.Array:
    return pa.array(np.array([*names, None], object)[numbers], pa.string())


def books(rows: Fetched, decided: Decided, params: DedupParams) -> dict[str, Any]:
    """Return the books in rows (pool = kept + copies + contaminated), and what else was counted."""
    pool = rows.of("pool")
    by, method = decided.leak.by, decided.method
    leaked = by[pool] != NONE
    clean = pool[~leaked]
    copies = clean[method[clean] != STANDS]
    return {
        "pool": len(pool),
        "kept": len(clean) - len(copies),
        "contaminated": int(leaked.sum()),
        "copies": _counted(method[copies]),
        "contaminated_seeds": int((by[rows.of("seed")] != NONE).sum()),
        "leaks": {
            name: dict(_leak_report(rows, decided, name, number))
            for number, name in enumerate(rows.held_out)
            if params.held_out
        },
    } | decided.told


def _counted(methods: npt.NDArray[np.int8]) -> dict[str, int]:
    found, counts = np.unique(methods, return_counts=True)
    by_name = {HOW[method]: count for method, count in zip(found, counts.tolist(), strict=True)}
    return dict(sorted(by_name.items()))


def _leak_report(
    rows: Fetched, decided: Decided, name: str, number: int
) -> Iterator[tuple[str, Any]]:
    """Yield how many pictures a set has, how many of them stand in pool or seeds, and how rows do."""
    own = rows.images[(rows.sources == name)[rows.fragment]]
    leak = decided.leak
    hit = leak.set == number
    yield "images", len(np.unique(own))
    yield "images_found", len(np.unique(leak.by[hit]))
    for role in ("pool", "seed"):
        of = rows.of(role)
        yield role, _counted(leak.method[of[hit[of]]])


def added(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the `books` of parts that share no component as those of all."""
    largest = [own for part in parts for own in part["largest_components"]]
    largest.sort(key=lambda own: (-own["images"], own["component_id"]))
    counts = [{n: v for n, v in part.items() if n != "largest_components"} for part in parts]
    total: dict[str, Any] = _sum(counts)
    return total | {"largest_components": largest[:LARGEST]}


def _sum(values: Sequence[Any]) -> Any:
    if not isinstance(values[0], dict):
        return sum(values)
    names = list(values[0])
    if any(list(value) != names for value in values):
        # Counts by method, of which a part has some.
        names = sorted({name for value in values for name in value})
    return {name: _sum([value[name] for value in values if name in value]) for name in names}
