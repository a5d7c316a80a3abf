"""The decision itself, in arrays: what becomes of each row, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.stages.dedup import held_out as leaks
from curation.stages.dedup.components import Components, find_components, told
from curation.stages.dedup.held_out import Touched
from curation.stages.dedup.params import DedupParams
from curation.stages.dedup.rows import Fetched, Images, Ints, images_of, order_of
from curation.stages.dedup.ties import (
    METHODS,
    Near,
    Ties,
    both_ways,
    join_ties,
    neighbour_ties,
    pixel_ties,
    strongest,
)

HOW = [*METHODS, "exact", "representative"]
"""How a row is tied to the one that stands for its component; `method` numbers these."""
EXACT, STANDS = len(METHODS), len(METHODS) + 1
CURATED = ["seed", "held_out"]
NONE = -1


@dataclass(frozen=True)
class Leak:
    """Which held-out picture each row, or its component, copies; (n,) each.

    `by` is a row of that picture and `via` one of the picture through which it is reached, NONE
    without; `set` numbers the held-out sets, `method` HOW.
    """

    by: Ints
    via: Ints
    set: npt.NDArray[np.int16]
    method: npt.NDArray[np.int8]
    similarity: npt.NDArray[np.float32]

    @classmethod
    def none(cls, rows: int) -> Leak:
        """Return that no row copies a held-out picture."""
        return cls(
            np.full(rows, NONE),
            np.full(rows, NONE),
            np.full(rows, NONE, np.int16),
            np.full(rows, NONE, np.int8),
            np.full(rows, np.nan, np.float32),
        )


@dataclass(frozen=True)
class Decided:
    """What becomes of each row, (n,) each. Pictures are told by a row of theirs, NONE without:

    `component` is the one with the smallest image_id, `stands` the row that stands for the component,
    `evidence` the strongest tie and `seed` the seed that the row copies; `method` numbers HOW.
    """

    component: Ints
    stands: Ints
    method: npt.NDArray[np.int8]
    similarity: npt.NDArray[np.float32]
    evidence: Ints
    leak: Leak
    seed: Ints
    told: dict[str, Any]

    def repeats(self, rows: Fetched) -> tuple[Ints, Ints]:
        """Return the pool rows that copy another, and which."""
        pool = rows.of("pool")
        copies = pool[self.stands[pool] != pool]
        return copies, self.stands[copies]


def decide(rows: Fetched, near: Near, params: DedupParams) -> Decided:
    """Return what becomes of each row."""
    sides = {role: images_of(rows, rows.of(role)) for role in ("pool", *CURATED)}
    ties = _ties(rows, sides, near, params)
    pool = sides["pool"]
    found = find_components(
        ties["pool", "pool"], order_of(rows, pool, params.representative), params.chains
    )
    leak = _leaks(rows, sides, ties, found, params)
    own = _by_image(rows, sides, found, ties["pool", "pool"])
    _name_repeats(rows, own, params.exact)
    seeds = sides["seed"]
    seen = leaks.strong_enough(ties["seed", "pool"], -1.0)
    from_seed = leaks.best_ties(seen, seeds, pool, np.zeros(len(seeds.ids), np.int32))
    copy_of = np.full(len(rows.images), NONE)
    of = rows.of("pool")
    by = from_seed.by[pool.places(rows.images[of])]
    copy_of[of[by >= 0]] = seeds.best[by[by >= 0]]
    said = {
        "ties": {
            name: int((ties["pool", "pool"].method == number).sum())
            for number, name in enumerate(METHODS)
        }
    }
    said |= told(found, ties["pool", "pool"], pool.ids)
    return Decided(**own, leak=leak, seed=copy_of, told=said)


def _ties(
    rows: Fetched, sides: dict[str, Images], near: Near, params: DedupParams
) -> dict[tuple[str, str], Ties]:
    """Return the ties of each two roles; for held-out ones all above the least threshold of a set."""
    least, lowest = bounds_of(params, rows.held_out)
    found = {}
    for left, right in (
        ("pool", "pool"),
        ("seed", "pool"),
        ("held_out", "pool"),
        ("held_out", "seed"),
    ):
        parts = [pixel_ties(rows, sides[left], sides[right])] if params.pixels else []
        bounds = lowest if left == "held_out" else least
        if left != "held_out" or params.held_out:
            ends = (left, sides[left]), (right, sides[right])
            parts.append(neighbour_ties(near, *ends, bounds))
        found[left, right] = join_ties(parts)
    return found


def bounds_of(params: DedupParams, sets: list[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the least similarity of ties by method, and of ties of held-out pictures."""
    least: dict[str, float] = {}
    if params.perceptual:
        least["perceptual"] = 1 - params.perceptual.max_distance / 256
    if params.near:
        least["near"] = params.near.at_least
    if params.semantic:
        least["semantic"] = 1 - params.semantic.epsilon
    lowest = least.copy()
    if params.held_out and params.near:
        own = [params.held_out.of(name)[0] for name in sets]
        lowest["near"] = min([*own, params.held_out.at_least])
    return least, lowest


def _by_image(
    rows: Fetched, sides: dict[str, Images], found: Components, ties: Ties
) -> dict[str, Any]:
    """Return the columns that come from components, for every row; others are their own."""
    count = len(rows.images)
    own: dict[str, Any] = {
        "component": np.arange(count),
        "stands": np.arange(count),
        "method": np.full(count, STANDS, np.int8),
        "similarity": np.full(count, np.nan, np.float32),
        "evidence": np.full(count, NONE),
    }
    pool, of = sides["pool"], rows.of("pool")
    place = pool.places(rows.images[of])
    own["component"][of] = pool.best[found.smallest[place]]
    own["stands"][of] = pool.best[found.representative[place]]
    # Of chains that were cut only ties within a component count.
    within = found.representative[ties.left] == found.representative[ties.right]
    every = both_ways(ties.take(within))
    best = strongest(every, len(pool.ids), pool.ids)[place]
    tied = best >= 0
    if tied.any():
        own["similarity"][of[tied]] = every.strength[best[tied]]
        own["evidence"][of[tied]] = pool.best[every.right[best[tied]]]
        copies = tied & (found.representative[place] != place)
        own["method"][of[copies]] = every.method[best[copies]]
    # Within one seed set or held-out set only the same bytes repeat.
    for source in sorted(set(rows.sources[np.isin(rows.roles, CURATED)].tolist())):
        mine = np.flatnonzero((rows.sources == source)[rows.fragment])
        images = images_of(rows, mine)
        own["stands"][mine] = images.best[images.places(rows.images[mine])]
    return own


def _name_repeats(rows: Fetched, own: dict[str, Any], exact: bool) -> None:
    """Mark rows whose bytes another row of the same scope stands for."""
    stands = own["stands"]
    pool = (rows.roles == "pool")[rows.fragment]
    same_picture = rows.images[stands] == rows.images
    best = np.where(same_picture, stands, -1)
    scope = np.flatnonzero(pool & ~same_picture)
    if len(scope):
        images = images_of(rows, rows.of("pool"))
        best[scope] = images.best[images.places(rows.images[scope])]
    repeats = best != np.arange(len(stands))
    if exact:
        own["method"][repeats] = EXACT
        own["similarity"][repeats] = 1.0
        own["evidence"][repeats] = np.flatnonzero(repeats)
    else:
        # Without the level, rows with the same bytes all stand, unless their picture copies another.
        own["stands"][repeats & same_picture] = np.flatnonzero(repeats & same_picture)


def _leaks(
    rows: Fetched,
    sides: dict[str, Images],
    ties: dict[tuple[str, str], Ties],
    found: Components,
    params: DedupParams,
) -> Leak:
    held, leak = sides["held_out"], Leak.none(len(rows.images))
    names = rows.held_out
    if params.held_out is None or not names:
        return leak
    members = {
        name: np.isin(held.ids, rows.images[(rows.sources == name)[rows.fragment]])
        for name in names
    }
    sets = {name: (own, params.held_out.of(name)[0]) for name, own in members.items()}
    for role in ("pool", "seed"):
        side, of = sides[role], rows.of(role)
        parts = leaks.over_sets(ties["held_out", role], sets, held, side)
        if role == "pool":
            whole = [params.held_out.of(name)[1] for name in names]
            parts = [
                leaks.spread(part, found.smallest) if all_of_it else part
                for part, all_of_it in zip(parts, whole, strict=True)
            ]
        _tell(leak, of, leaks.merged(parts), side.places(rows.images[of]), (held, side))
    return leak


def _tell(
    leak: Leak, rows: Ints, touched: Touched, place: Ints, sides: tuple[Images, Images]
) -> None:
    held, side = sides
    hit = touched.by[place] >= 0
    of, place = rows[hit], place[hit]
    leak.by[of] = held.best[touched.by[place]]
    leak.via[of] = side.best[touched.via[place]]
    leak.set[of] = touched.set[place]
    method = touched.method[place]
    leak.method[of] = np.where(method == leaks.EXACT, EXACT, method)
    leak.similarity[of] = touched.strength[place]
