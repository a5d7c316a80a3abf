"""The copies of an image, and the pairs that link it to their representative."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import pyarrow.compute as pc

from curation.inspect.why.tables import Place, RowReader
from curation.inspect.why.values import text

MEMBER_COLUMNS = ("pair_id", "image_id", "method", "similarity", "evidence_id")
SHOWN_COPIES = 10
CONTAMINATION = (
    "contaminated_by",
    "contaminated_via",
    "contaminated_set",
    "contamination_method",
    "contamination_similarity",
)


class Copies(NamedTuple):
    """What `dedup` decided of a row.

    Attributes:
        facts: its component, its representative and the evidence.
        fragment: the fragment of the row that stands for it; None if it is not known.
    """

    facts: dict[str, Any]
    fragment: str | None


def copies_of(tables: RowReader, place: Place) -> Copies | None:
    """Return what `dedup` decided of a row.

    Args:
        tables: of the recipe.
        place: of the row.

    Returns:
        None if dedup has not run, or the row has no image.
    """
    row = tables.row("copies", place)
    if row is None:
        return None
    alone = _is_alone(row)
    members = [{"fragment": place.fragment, **row}] if alone else _members(tables, row)
    stands = (m["fragment"] for m in members if m["pair_id"] == row["representative_pair_id"])
    return Copies(_facts(tables, row, members), next(stands, None))


def _facts(tables: RowReader, row: dict[str, Any], members: list[dict[str, Any]]) -> dict[str, Any]:
    contamination = {name: row[name] for name in CONTAMINATION}
    return {
        "component_id": row["component_id"],
        "rows": len(members),
        "images": len({member["image_id"] for member in members}),
        "stands_for": sum(member["representative_pair_id"] == row["pair_id"] for member in members),
        "method": row["method"],
        "similarity": row["similarity"],
        "representative_id": row["representative_id"],
        "representative_pair_id": row["representative_pair_id"],
        "tied_by": _links_to_representative(tables, row, members),
        "others": [
            {name: member[name] for name in MEMBER_COLUMNS}
            for member in members
            if member["pair_id"] != row["pair_id"]
        ][:SHOWN_COPIES],
        "contaminated": contamination if row["contaminated_by"] else None,
        "copy_of_seed": row["copy_of_seed"],
    }


def _is_alone(row: dict[str, Any]) -> bool:
    """Whether a row shows without its component that it has no copies, as most rows of a pool do."""
    no_edge = row["similarity"] is None and row["copies"] is None
    return bool(no_edge and row["role"] == "pool" and row["method"] == "representative")


def _members(tables: RowReader, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the component of a row.

    A component is one of the pool, or of one seed or held-out set. If several of them have an image,
    the same id may name a component of each.
    """
    columns = (*MEMBER_COLUMNS, "representative_pair_id", "role", "source")
    rows = tables.scan("copies", columns, {"component_id": [row["component_id"]]})
    shared = "role" if row["role"] == "pool" else "source"
    return [member for member in rows if member[shared] == row[shared]]


def _links_to_representative(
    tables: RowReader, row: dict[str, Any], members: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the pairs of images that lead from an image to its representative, in order."""
    edges: dict[str, list[dict[str, Any]]] = {}
    # A pair stands in the rows of both ends; that of the representative does not name the method.
    for member in sorted(members, key=lambda member: member["method"] == "representative"):
        if member["evidence_id"] in (None, member["image_id"]):
            continue
        edge = {name: member[name] for name in ("image_id", "evidence_id", "similarity")}
        edge["method"] = member["method"] if member["method"] != "representative" else None
        for end in (member["image_id"], member["evidence_id"]):
            edges.setdefault(end, []).append(edge)
    path = _path(edges, row["image_id"], row["representative_id"])
    if not path and row["image_id"] != row["representative_id"]:
        # The best pairs of a long chain need not hang together. Others are seldom needed, and slow.
        from curation.inspect.why.links import links_between

        for link in links_between(tables, [member["image_id"] for member in members]):
            for end in (link["image_id"], link["evidence_id"]):
                edges.setdefault(end, []).append(link)
        path = _path(edges, row["image_id"], row["representative_id"])
    return [edge | {"pixels": _pixels(tables, edge)} for edge in path]


def _path(edges: dict[str, list[dict[str, Any]]], start: str, end: str) -> list[dict[str, Any]]:
    """Return the shortest chain of edges between two images; empty if there is none."""
    came_by: dict[str, tuple[str, dict[str, Any]]] = {}
    waiting, seen = deque([start]), {start}
    while waiting:
        image = waiting.popleft()
        for edge in edges.get(image, ()):
            other = edge["evidence_id"] if edge["image_id"] == image else edge["image_id"]
            if other not in seen:
                seen.add(other)
                came_by[other] = (image, edge)
                waiting.append(other)
    path = []
    while end != start and end in came_by:
        end, edge = came_by[end]
        path.append(edge)
    return path[::-1]


def _pixels(tables: RowReader, edge: dict[str, Any]) -> dict[str, Any] | None:
    """Return how far the pixels of a pair agree, if `verify` compared them."""
    first, second = sorted((edge["image_id"], edge["evidence_id"]))
    if "verified" not in tables:
        return None
    columns = ["image_a", "image_b", "agreement", "inside", "mirrored", "hue"]
    for fragment in tables["verified"].fragments.values():
        for part in fragment.row_groups_between("image_a", first, first, columns):
            for row in part.filter(_is_pair(part, first, second)).to_pylist():
                return {name: row[name] for name in columns[2:]}
    return None


def _is_pair(part: Any, first: str, second: str) -> Any:
    return pc.and_(pc.equal(part["image_a"], text(first)), pc.equal(part["image_b"], text(second)))
