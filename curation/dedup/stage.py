"""dedup: components of copies, a representative each, and what copies a held-out picture."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.dedup.decide import HOW, NONE, STANDS, Decided, decide, held_out_sets
from curation.dedup.members import copied, members_by_fragment
from curation.dedup.params import DedupParams
from curation.dedup.rows import Fetched, Ints, read_rows
from curation.dedup.ties import Near, agreeing_pairs
from curation.fragment import Table
from curation.knn.join import from_ids
from curation.table import contract
from curation.units import Context, Rows

GIANT = 1_000
"""Images of a component that a person should look at."""

logger = logging.getLogger(__name__)


def dedup(
    images: Table,
    scores: Table,
    neighbours: Table,
    verified: Table,
    *,
    params: DedupParams,
    context: Context,
) -> Rows:
    """Decide who copies whom.

    A component is judged by its representative; ties of seeds and held-out pictures among themselves
    make no component, since curated and evaluation sets are not ours to thin out: of these only exact
    copies within one source are.

    Yields:
        (fragment, batch of `copies`): a row for each fetched row, in order.

    Returns:
        The books (pool = kept + copies + contaminated), ties by method, sizes of components with their
        weakest links, and the leaks of each held-out set.
    """
    rows = read_rows(images, scores if params.pixels else None)
    agreeing = agreeing_pairs(verified, params.verify) if params.verify else None
    decided = decide(rows, Near(neighbours, agreeing), params)
    schema = contract("copies").arrow_schema()
    names = schema.names
    listed = copied(rows, *decided.repeats(rows))
    lists = members_by_fragment(rows, listed, schema.field("copies").type)
    for number, (fragment, own) in enumerate(zip(rows.fragments, lists, strict=True)):
        part = np.arange(rows.ends[number], rows.ends[number + 1])
        columns = _columns(rows, decided, part, number) | {"copies": own}
        batch = pa.RecordBatch.from_arrays([columns[name] for name in names], schema=schema)
        yield fragment.name, batch
    stats = _books(rows, decided, params) | decided.told
    _warn(stats, params)
    return stats


def _columns(rows: Fetched, decided: Decided, part: Ints, number: int) -> dict[str, pa.Array]:
    """Return the columns of one fragment, all but the list of copies."""
    own = rows.fragments[number].read(["pair_id"]).column("pair_id").combine_chunks()
    pair_id = own.take(pa.array(rows.row[part]))
    stands = decided.stands[part]
    elsewhere = np.flatnonzero(stands != part)
    standing = pair_id.to_numpy(zero_copy_only=False).astype("S32")
    if len(elsewhere):
        standing[elsewhere] = rows.pair_ids(stands[elsewhere])
    leak, size = decided.leak, len(part)

    def ids(of: Ints) -> pa.Array:
        return from_ids(rows.images[of[part]], known=of[part] != NONE)

    return {
        "pair_id": pair_id,
        "image_id": from_ids(rows.images[part]),
        "role": pa.array([str(rows.roles[number])] * size, pa.string()),
        "source": pa.array([str(rows.sources[number])] * size, pa.string()),
        "component_id": ids(decided.component),
        "representative_id": ids(decided.stands),
        "representative_pair_id": from_ids(standing),
        "method": _text(HOW, decided.method[part]),
        "similarity": _known(decided.similarity[part]),
        "evidence_id": ids(decided.evidence),
        "contaminated_by": ids(leak.by),
        "contaminated_via": ids(leak.via),
        "contaminated_set": _text(held_out_sets(rows), leak.set[part]),
        "contamination_method": _text(HOW, leak.method[part]),
        "contamination_similarity": _known(leak.similarity[part]),
        "copy_of_seed": ids(decided.seed),
    }


def _known(values: npt.NDArray[np.float32]) -> pa.Array:
    return pa.array(values, pa.float32(), mask=np.isnan(values))


def _text(names: list[str], numbers: npt.NDArray[Any]) -> pa.Array:
    return pa.array(np.array([*names, None], object)[numbers], pa.string())


def _books(rows: Fetched, decided: Decided, params: DedupParams) -> dict[str, Any]:
    """Return the books in rows: pool = kept + copies + contaminated."""
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
            for number, name in enumerate(held_out_sets(rows))
            if params.held_out
        },
    }


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


def _warn(stats: dict[str, Any], params: DedupParams) -> None:
    """Say what a person would not expect."""
    if stats["pool"] and stats["contaminated"] == stats["pool"]:
        logger.warning(
            "dedup: every row of the pool copies a held-out picture, and none is left. Is a held-out "
            "source the pool itself, or `dedup.held_out.at_least` too low?"
        )
    for name, told_of in stats["leaks"].items():
        if not told_of["images"]:
            logger.warning("dedup: held-out set %r has no picture; nothing is kept out", name)
    if params.chains == "join":
        for component in stats["largest_components"][:1]:
            if component["images"] > GIANT:
                logger.warning(
                    "dedup: a component has %d images, its weakest link is %s; if they are no copies, "
                    "raise the threshold or set dedup.chains: cut",
                    component["images"],
                    component.get("weakest_link"),
                )
