"""What copies a held-out picture: by set, with which picture, how strongly, through which image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.stages.dedup.rows import Images, Ints
from curation.stages.dedup.ties import METHODS, Ties

EXACT = -1
"""Instead of the number of a method: the same bytes."""
NEAR = METHODS.index("near")
SEMANTIC = METHODS.index("semantic")


@dataclass(frozen=True)
class Touched:
    """What touches each of n images.

    `by` is the held-out image that it copies (−1 for none), `set` the one that this is of, `method`
    EXACT or a number of METHODS, and `via` the image of its component through which it does.
    """

    by: Ints
    set: npt.NDArray[np.int32]
    method: npt.NDArray[np.int8]
    strength: npt.NDArray[np.float32]
    via: Ints

    @classmethod
    def none(cls, images: int) -> Touched:
        """Return what touches nothing."""
        return cls(
            np.full(images, -1),
            np.full(images, -1, np.int32),
            np.full(images, EXACT, np.int8),
            np.zeros(images, np.float32),
            np.arange(images),
        )


def best_ties(ties: Ties, left: Images, right: Images, names: npt.NDArray[np.int32]) -> Touched:
    """Return the best tie of each image on the right; its own bytes come first.

    Args:
        ties: from `left` to `right`.
        left: held-out images, or seeds.
        right: images that may be copies.
        names: a number for each image on the left, as of its set.
    """
    touched = Touched.none(len(right.ids))
    order = np.lexsort((left.ids[ties.left], -ties.strength, ties.method, ties.right))
    owners, first = np.unique(ties.right[order], return_index=True)
    _put(touched, owners, ties.take(order[first]))
    same = right.places(left.ids)
    found = np.flatnonzero(same >= 0)
    sure = len(found)
    exact = Ties(
        found.astype(np.int32),
        same[found].astype(np.int32),
        np.ones(sure, np.float32),
        np.full(sure, EXACT, np.int8),
    )
    _put(touched, same[found], exact)
    hit = touched.by >= 0
    touched.set[hit] = names[touched.by[hit]]
    return touched


def _put(touched: Touched, images: npt.NDArray[Any], ties: Ties) -> None:
    touched.by[images], touched.method[images] = ties.left, ties.method
    touched.strength[images] = ties.strength


def strong_enough(ties: Ties, at_least: float) -> Ties:
    """Return the ties that count for a held-out set: by vectors only those `at_least`.

    Likeness of meaning is no copy and does not count.
    """
    near = (ties.method != NEAR) | (ties.strength >= np.float32(at_least))
    return ties.take(near & (ties.method != SEMANTIC))


def over_sets(
    ties: Ties,
    sets: Mapping[str, tuple[npt.NDArray[np.bool_], float]],
    left: Images,
    right: Images,
) -> list[Touched]:
    """Return `best_ties` of each held-out set.

    Args:
        ties: from all held-out images to `right`.
        sets: by name, which of the images on the left are of it, and its threshold.
        left: all held-out images.
        right: images that may be copies.
    """
    found = []
    for number, (own, at_least) in enumerate(sets.values()):
        mine = strong_enough(ties.take(own[ties.left]), at_least)
        members = Images(np.where(own, left.ids, b""), left.best)
        names = np.full(len(left.ids), number, np.int32)
        found.append(best_ties(mine, members, right, names))
    return found


def merged(parts: list[Touched]) -> Touched:
    """Return for each image what touches it best over all sets; equal ones go to the earlier set."""
    best = parts[0]
    for part in parts[1:]:
        surer = part.method < best.method
        stronger = (part.method == best.method) & (part.strength > best.strength)
        better = (part.by >= 0) & ((best.by < 0) | surer | stronger)
        best = Touched(
            np.where(better, part.by, best.by),
            np.where(better, part.set, best.set),
            np.where(better, part.method, best.method),
            np.where(better, part.strength, best.strength),
            np.where(better, part.via, best.via),
        )
    return best


def spread(touched: Touched, component: Ints) -> Touched:
    """Return the same, with what touches one image of a component touching all others of it too."""
    hit = np.flatnonzero(touched.by >= 0)
    order = hit[np.lexsort((hit, touched.by[hit], -touched.strength[hit], touched.method[hit]))]
    owners, first = np.unique(component[order], return_index=True)
    through = np.full(len(component), -1)
    through[owners] = order[first]
    via = through[component]
    take = (touched.by < 0) & (via >= 0)

    def through_it(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.where(take, values[via], values)

    return Touched(
        through_it(touched.by),
        through_it(touched.set),
        through_it(touched.method),
        through_it(touched.strength),
        np.where(take, via, touched.via),
    )
