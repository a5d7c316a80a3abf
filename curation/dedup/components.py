"""Connected components and who stands for each: exact, and independent of any order of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from curation.dedup.ties import Ties
from curation.vectors import Ids


@dataclass(frozen=True)
class Components:
    """For each image (sorted ids): the smallest and the representative image of its component."""

    component_id: Ids
    representative_id: Ids
    label: npt.NDArray[np.int32]


def find_components(
    images: Ids,
    ties: Ties,
    pixels: npt.NDArray[np.int64],
    caption_length: npt.NDArray[np.int64],
) -> Components:
    """Join tied images; the representative has most pixels, then the longest caption, then the
    smallest image_id.

    Args:
        images: sorted unique ids (n,).
        ties: pairs of them.
        pixels: width × height of each original.
        caption_length: characters of each image's longest caption.
    """
    left, right = np.searchsorted(images, ties.left), np.searchsorted(images, ties.right)
    ones = np.ones(len(left), dtype=np.int8)
    graph = coo_array((ones, (left, right)), shape=(len(images), len(images)))
    _, label = connected_components(graph, directed=False)
    best = np.lexsort((images, -caption_length, -pixels, label))
    smallest = np.lexsort((images, label))
    _, first_best = np.unique(label[best], return_index=True)
    _, first_smallest = np.unique(label[smallest], return_index=True)
    return Components(
        images[smallest[first_smallest]][label], images[best[first_best]][label], label
    )
