"""The composition table: what each arm asks for and gives, expected by a plan or found by a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curation.errors import StoreError
from curation.recipe import Recipe

if TYPE_CHECKING:
    from curation.engine.manifest import Manifest

COUNTS = (
    "seed_rows",
    "seed_images",
    "requested",
    "available",
    "retrieved",
    "unique",
    "capped",
    "final",
    "shortfall",
)
COLUMNS = ("arm", "seed_set", "strategy", *COUNTS)


def expected_composition(recipe: Recipe) -> list[dict[str, Any]]:
    """Return what each arm is expected to give, from declared counts alone; None where they do not
    tell.

    The row is that of table 15 of DINOv2: images of the seed set, how, retrieved, final.
    """
    counts = {s.name: s.count for s in recipe.sources}
    rows = []
    for arm in recipe.retrieve:
        images = counts[arm.seeds] if arm.seeds else None
        expected = arm.expected(images)
        rows.append(
            {
                "arm": arm.name,
                "seed_set": arm.seeds,
                "strategy": arm.strategy,
                "images": images,
                "retrieved": expected.retrieved,
                "final": expected.final,
            }
        )
    return rows


def expected_total(composition: list[dict[str, Any]]) -> int | None:
    """Return Σ final, each image counted once a claim; None where an arm's is not known."""
    finals = [row["final"] for row in composition]
    return None if None in finals else sum(finals)


def composition_of(claims: Manifest) -> tuple[list[dict[str, Any]], int]:
    """Return the composition that a run found, and Σ final, with its sums checked.

    Raises:
        StoreError: the sums do not agree with the claims; nothing should be built on them.
    """
    # JSON keeps its keys sorted; people read them in the order of the work.
    rows = [{name: row[name] for name in COLUMNS} for row in claims.stats["composition"]]
    total = sum(r["final"] for r in rows)
    for row in rows:
        if row["retrieved"] != row["capped"] + row["final"]:
            raise StoreError(f"Arm {row['arm']!r}: retrieved ≠ capped + final in {row}.")
    if total != claims.rows:
        raise StoreError(
            f"The composition says {total} claims, the table holds {claims.rows} rows."
        )
    return rows, total
