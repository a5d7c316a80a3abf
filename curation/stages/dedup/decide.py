"""The decision in arrays: which row represents each row, and which rows are contaminated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from curation.algorithms.arrays.vectors import RowNumbers
from curation.stages.dedup.components import (
    Components,
    component_stats,
    equal_images,
    find_components,
)
from curation.stages.dedup.decision import EXACT, NO_ROW, Contamination, Decision, Links
from curation.stages.dedup.edges import (
    METHODS,
    Edges,
    VerifiedNeighbours,
    best_edges,
    both_directions,
    concat_edges,
    neighbour_edges,
    no_edges,
    pixel_edges,
)
from curation.stages.dedup.fetched_rows import (
    DistinctImages,
    FetchedRows,
    distinct_images,
    rank_images,
)
from curation.stages.dedup.params import DedupParams, HeldOut
from curation.stages.dedup.reference_matches import (
    EQUAL_BYTES,
    ReferenceMatches,
    best_matches,
    best_over_sets,
    copy_edges,
    matches_by_set,
    spread,
)

CURATED_ROLES = ["seed", "held_out"]
ROLE_PAIRS = (("pool", "pool"), ("seed", "pool"), ("held_out", "pool"), ("held_out", "seed"))

ImagesByRole = dict[str, DistinctImages]
EdgesByRoles = dict[tuple[str, str], Edges]


def decide(rows: FetchedRows, verified: VerifiedNeighbours, params: DedupParams) -> Decision:
    """Decide which row represents each row, and which rows copy a held-out image or a seed.

    Args:
        rows: all fetched rows, or those of some components with all their edges.
        verified: neighbours, and which of them agree.
        params: of the stage.
    """
    images = {role: distinct_images(rows, rows.of_role(role)) for role in ("pool", *CURATED_ROLES)}
    edges = _edges_by_roles(rows, images, verified, params)
    pool, pool_edges = images["pool"], edges["pool", "pool"]
    rank = rank_images(rows, pool, params.representative)
    components = find_components(pool_edges, rank, params.chains)
    contamination = _contamination(rows, images, edges, components, params)
    if _some_stay(rows, params.held_out):
        removed = contamination.by[pool.best_row] != NO_ROW
        components = find_components(pool_edges, rank, params.chains, removed)
    links = Links.to_itself(len(rows.image_ids))
    _link_pool(links, rows, pool, components, pool_edges)
    _link_curated(links, rows)
    _mark_repeats(links, rows, params.exact)
    counts = np.bincount(pool_edges.method, minlength=len(METHODS)).tolist()
    stats = {"edges": dict(zip(METHODS, counts, strict=True))}
    stats |= component_stats(components, pool_edges, pool.ids)
    copied_seed = _copied_seeds(rows, images, edges)
    return Decision(links, contamination, copied_seed, stats)


def _edges_by_roles(
    rows: FetchedRows, images: ImagesByRole, verified: VerifiedNeighbours, params: DedupParams
) -> EdgesByRoles:
    """Return the edges between each two roles.

    For held-out images, the lowest threshold of any held-out set applies.
    """
    thresholds, held_out_thresholds = similarity_thresholds(params, rows.held_out_sets)
    edges = {}
    for left, right in ROLE_PAIRS:
        parts = [pixel_edges(rows, images[left], images[right])] if params.pixels else []
        if left != "held_out" or params.held_out:
            ends = (left, images[left]), (right, images[right])
            bounds = held_out_thresholds if left == "held_out" else thresholds
            parts.append(neighbour_edges(verified, *ends, bounds))
        edges[left, right] = concat_edges(parts)
    return edges


def _some_stay(rows: FetchedRows, params: HeldOut | None) -> bool:
    """Whether clean images of a component stay if others copy a held-out image."""
    return params is not None and not all(params.of(name)[1] for name in rows.held_out_sets)


def similarity_thresholds(
    params: DedupParams, held_out_sets: list[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the smallest similarity of edges by method: of all edges, and of edges of held-out images.

    The latter has the lowest threshold of any held-out set.

    Args:
        params: of the stage.
        held_out_sets: names of the held-out sets.
    """
    thresholds: dict[str, float] = {}
    if params.perceptual:
        thresholds["perceptual"] = 1 - params.perceptual.max_distance / 256
    if params.near:
        thresholds["near"] = params.near.at_least
    if params.semantic:
        thresholds["semantic"] = params.semantic.at_least
    lowest = thresholds.copy()
    if params.held_out and params.near:
        of_sets = [params.held_out.of(name)[0] for name in held_out_sets]
        lowest["near"] = min([*of_sets, params.held_out.at_least])
    return thresholds, lowest


def _link_pool(
    links: Links, rows: FetchedRows, pool: DistinctImages, components: Components, edges: Edges
) -> None:
    """Link the rows of the pool to their components."""
    pool_rows = rows.of_role("pool")
    image = pool.numbers_of(rows.image_ids[pool_rows])
    links.component[pool_rows] = pool.best_row[components.smallest[image]]
    links.representative[pool_rows] = pool.best_row[components.representative[image]]
    # With cut chains, only edges within a component count.
    representative, component = components.representative, components.smallest
    within = component[edges.left] == component[edges.right]
    directed = both_directions(edges.take(within))
    best = best_edges(directed, len(pool.ids), pool.ids)[image]
    has_edge = best >= 0
    if has_edge.any():
        best_edge = best[has_edge]
        links.similarity[pool_rows[has_edge]] = directed.similarity[best_edge]
        links.evidence[pool_rows[has_edge]] = pool.best_row[directed.right[best_edge]]
        copies = has_edge & (representative[image] != image)
        links.method[pool_rows[copies]] = directed.method[best[copies]]


def _link_curated(links: Links, rows: FetchedRows) -> None:
    """Link rows of one seed set or held-out set that have the same bytes."""
    for source in sorted(set(rows.sources[np.isin(rows.roles, CURATED_ROLES)].tolist())):
        source_rows = rows.of_source(source)
        images = distinct_images(rows, source_rows)
        image = images.numbers_of(rows.image_ids[source_rows])
        links.representative[source_rows] = images.best_row[image]


def _mark_repeats(links: Links, rows: FetchedRows, exact: bool) -> None:
    """Mark rows whose image has a better row in the pool, or in the same set.

    Args:
        links: of all rows.
        rows: all rows.
        exact: whether rows with the same bytes are copies. If not, each represents itself, unless its
            image copies another one.
    """
    is_pool = (rows.roles == "pool")[rows.fragment]
    same_image = rows.image_ids[links.representative] == rows.image_ids
    best_row = np.where(same_image, links.representative, -1)
    copies_other_image = np.flatnonzero(is_pool & ~same_image)
    if len(copies_other_image):
        images = distinct_images(rows, rows.of_role("pool"))
        numbers = images.numbers_of(rows.image_ids[copies_other_image])
        best_row[copies_other_image] = images.best_row[numbers]
    repeats = best_row != np.arange(len(best_row))
    if exact:
        links.method[repeats] = EXACT
        links.similarity[repeats] = 1.0
        links.evidence[repeats] = np.flatnonzero(repeats)
    else:
        alone = repeats & same_image
        links.representative[alone] = np.flatnonzero(alone)


def _copied_seeds(rows: FetchedRows, images: ImagesByRole, edges: EdgesByRoles) -> RowNumbers:
    """Return a row of the seed image that each pool row copies, or NO_ROW."""
    pool, seeds = images["pool"], images["seed"]
    matches = best_matches(copy_edges(edges["seed", "pool"], at_least=-1.0), seeds, pool)
    matches = spread(matches, equal_images(edges["pool", "pool"], len(pool.ids)))
    copied_seed = np.full(len(rows.image_ids), NO_ROW)
    pool_rows = rows.of_role("pool")
    seed = matches.reference[pool.numbers_of(rows.image_ids[pool_rows])]
    copied_seed[pool_rows[seed >= 0]] = seeds.best_row[seed[seed >= 0]]
    return copied_seed


def _contamination(
    rows: FetchedRows,
    images: ImagesByRole,
    edges: EdgesByRoles,
    components: Components,
    params: DedupParams,
) -> Contamination:
    """Return which held-out image each row of pool and seeds copies."""
    contamination = Contamination.none(len(rows.image_ids))
    names, held_out, rule = rows.held_out_sets, images["held_out"], params.held_out
    if rule is None or not names:
        return contamination
    sets = {
        name: (np.isin(held_out.ids, rows.image_ids[rows.of_source(name)]), rule.of(name)[0])
        for name in names
    }
    within = {"pool": edges["pool", "pool"], "seed": no_edges()}
    if params.pixels:
        within["seed"] = pixel_edges(rows, images["seed"], images["seed"])
    is_found = [np.zeros(len(held_out.ids), bool) for _ in names]
    for role, edges_within in within.items():
        classes = equal_images(edges_within, len(images[role].ids))
        matches = matches_by_set(edges["held_out", role], sets, held_out, images[role])
        for of_set, (in_set, at_least) in zip(is_found, sets.values(), strict=True):
            of_set[copy_edges(edges["held_out", role], at_least).left] = True
            of_set[images[role].numbers_of(held_out.ids) >= 0] = True
            of_set &= in_set
        parts = [
            spread(part, components.smallest if role == "pool" and rule.of(name)[1] else classes)
            for part, name in zip(matches, names, strict=True)
        ]
        _fill_contamination(contamination, rows, role, best_over_sets(parts), images)
    return replace(contamination, images_found=[int(of_set.sum()) for of_set in is_found])


def _fill_contamination(
    contamination: Contamination,
    rows: FetchedRows,
    role: str,
    matches: ReferenceMatches,
    images: ImagesByRole,
) -> None:
    """Write the matches of the images of a role to their rows."""
    role_rows = rows.of_role(role)
    image = images[role].numbers_of(rows.image_ids[role_rows])
    matched = matches.reference[image] >= 0
    role_rows, image = role_rows[matched], image[matched]
    contamination.by[role_rows] = images["held_out"].best_row[matches.reference[image]]
    contamination.via[role_rows] = images[role].best_row[matches.via[image]]
    contamination.set[role_rows] = matches.set[image]
    method = matches.method[image]
    contamination.method[role_rows] = np.where(method == EQUAL_BYTES, EXACT, method)
    contamination.similarity[role_rows] = matches.similarity[image]
