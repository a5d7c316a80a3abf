"""Components of copies and their representatives: exact, and independent of the order of rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from curation.algorithms.arrays.vectors import Bools, Ids
from curation.algorithms.components.union_find import UnionFind
from curation.engine.sorted_arrays import stable_order
from curation.stages.dedup.edges import METHODS, PERCEPTUAL, PIXELS, Edges, both_directions
from curation.stages.dedup.fetched_rows import ImageNumbers, Ranks

LARGEST_SHOWN = 10
"""Largest components that the manifest describes."""
SIZE_BINS = (1, 2, 3, 4, 5, 9, 17, 33, 65, 129, 1025)
"""Smallest size in each bin of the histogram of component sizes."""


@dataclass(frozen=True)
class Components:
    """The component of each image.

    Attributes:
        smallest: smallest number of an image in the component, shape (n,).
        representative: number of the image that represents the component, shape (n,).
    """

    smallest: ImageNumbers
    representative: ImageNumbers


def find_components(
    edges: Edges, rank: Ranks, chains: str, contaminated: Bools | None = None
) -> Components:
    """Return the connected components of images. The image of the lowest rank represents a component.

    Args:
        edges: edges between images.
        rank: rank of each image, shape (n,).
        chains: `join` keeps whole components. `cut` keeps in a component only the images with an edge
            to its representative; the rest form components of their own (see `cut_chains`).
        contaminated: which images are removed, shape (n,). The others of their component stay, and are
            represented by the best of themselves. By default no image is removed alone.
    """
    components = UnionFind(len(rank))
    components.union(edges.left, edges.right)
    label = components.labels().astype(np.int64)
    group = label
    if contaminated is not None:
        group = np.unique(2 * label + contaminated, return_inverse=True)[1]
        edges = edges.take(contaminated[edges.left] == contaminated[edges.right])
    representative = _best_ranked(group, rank)
    if chains == "cut":
        representative = cut_chains(group, representative, edges, rank)
        label = _best_ranked(representative, np.arange(len(rank)))
    return Components(label, representative)


def equal_images(edges: Edges, images: int) -> ImageNumbers:
    """Return the class of each image: the smallest number of an image with equal pixels or hashes.

    Edges lead from one image of a class to the others, and not between all of them. So whatever holds
    for one image of a class holds for all.

    Args:
        edges: edges between the images.
        images: number of images.

    Returns:
        Shape (images,).
    """
    same_hash = (edges.method == PERCEPTUAL) & (edges.similarity == 1)
    equal = edges.take((edges.method == PIXELS) | same_hash)
    classes = UnionFind(images)
    classes.union(equal.left, equal.right)
    return classes.labels().astype(np.int64)


def _best_ranked(label: ImageNumbers, rank: Ranks) -> ImageNumbers:
    """Return for each image the one of the lowest rank among the images with its label."""
    lowest = np.full(len(label), np.iinfo(np.int64).max)
    np.minimum.at(lowest, label, rank)
    image_of_rank = np.empty(len(rank), np.int64)
    image_of_rank[rank] = np.arange(len(rank))
    best: ImageNumbers = image_of_rank[lowest[label]]
    return best


def cut_chains(
    label: ImageNumbers, representative: ImageNumbers, edges: Edges, rank: Ranks
) -> ImageNumbers:
    """Return the representative of each image if only direct edges count, by greedy clustering.

    Images are visited from the lowest rank. An image without a representative becomes one, for itself
    and for those of its neighbours that have none yet. Equal images are one node: the best of them.

    Args:
        label: component of each image, shape (n,).
        representative: representative of each component, by image, shape (n,).
        edges: edges between images.
        rank: rank of each image, shape (n,).
    """
    images = np.arange(len(label))
    node = _best_ranked(equal_images(edges, len(label)), rank)
    directed = both_directions(edges)
    left, right = node[directed.left], node[directed.right]
    order = stable_order(left)
    neighbour = right[order]
    start = np.searchsorted(left[order], np.arange(len(label) + 1))
    is_direct = (images == representative) | (images != node)
    is_direct[left[right == representative[left]]] = True
    # A component changes only if one of its nodes has no edge to the representative.
    changed_labels = np.unique(label[~is_direct])
    members = np.flatnonzero(np.isin(label, changed_labels) & (images == node))
    result = representative.copy()
    result[members] = -1
    for image in members[np.argsort(rank[members])].tolist():
        if result[image] < 0:
            result[image] = image
            neighbours = neighbour[start[image] : start[image + 1]]
            result[neighbours[result[neighbours] < 0]] = image
    return result[node]


def component_stats(components: Components, edges: Edges, ids: Ids) -> dict[str, Any]:
    """Return the sizes of components, and the weakest links of the largest ones.

    The weakest link is the weakest edge of the spanning tree of strongest edges: without it the
    component falls apart.

    Args:
        components: of the images.
        edges: edges between the images.
        ids: id of each image, shape (n,).

    Returns:
        `components`, their number; `sizes`, a histogram; `largest_components`, a list.
    """
    label, size = np.unique(components.smallest, return_counts=True)
    largest = np.lexsort((ids[label], -size))[:LARGEST_SHOWN]
    bins = np.searchsorted(SIZE_BINS, size, "right") - 1
    count = np.bincount(bins, minlength=len(SIZE_BINS))
    names = [
        str(low) if high == low + 1 else f"{low}–{high - 1}" for low, high in pairwise(SIZE_BINS)
    ]
    names.append(f"{SIZE_BINS[-1]} or more")
    return {
        "components": len(label),
        "sizes": dict(zip(names, count.tolist(), strict=True)),
        "largest_components": [
            {"component_id": ids[label[n]].decode(), "images": int(size[n])}
            | _weakest_link(components.smallest, int(label[n]), edges, ids)
            for n in largest
            if size[n] > 1
        ],
    }


def _weakest_link(smallest: ImageNumbers, label: int, edges: Edges, ids: Ids) -> dict[str, Any]:
    from_component = edges.take(smallest[edges.left] == label)
    inside = from_component.take(smallest[from_component.right] == label)
    if not len(inside):
        return {}
    nodes, positions = np.unique([inside.left, inside.right], return_inverse=True)
    low, high = np.sort(positions.reshape(2, -1), axis=0)
    # Only the order of edges decides which ones the tree has. Weights that follow from similarities
    # would mix methods: the product of two stored vectors may be a little more than 1.
    strongest_first = np.lexsort((high, low, -inside.similarity, inside.method))
    weight = np.empty(len(inside))
    weight[strongest_first] = np.arange(1, len(inside) + 1)
    # A matrix would add up the weights of a pair that stands in it twice.
    _, first = np.unique(np.stack([low, high])[:, strongest_first], axis=1, return_index=True)
    edges_of_pairs = strongest_first[first]
    ends = low[edges_of_pairs], high[edges_of_pairs]
    shape = (len(nodes), len(nodes))
    graph = coo_array((weight[edges_of_pairs], ends), shape=shape).tocsr()
    weakest = strongest_first[int(minimum_spanning_tree(graph).data.max()) - 1]
    return {
        "weakest_link": {
            "images": sorted(ids[nodes[[low[weakest], high[weakest]]]].astype("U32").tolist()),
            "method": METHODS[inside.method[weakest]],
            "similarity": round(float(inside.similarity[weakest]), 6),
        }
    }
