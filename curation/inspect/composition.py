"""The composition table: what each arm requests and adds, as a plan expects it or a run counted it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curation.errors import Detail, StoreError
from curation.recipe import Recipe

if TYPE_CHECKING:
    from curation.store.manifest import Manifest

COUNTS = (
    "seed_rows",
    "seed_images",
    "requested",
    "available",
    "retrieved",
    "unique",
    "capped",
    "final",
    "final_images",
    "shortfall",
)
COLUMNS = ("arm", "seed_set", "strategy", *COUNTS)


def expected_composition(recipe: Recipe) -> list[dict[str, Any]]:
    """Return one row per arm with what it is expected to add, by the declared counts of sources.

    The columns are those of table 15 of DINOv2: images of the seed set, strategy, retrieved, final. A
    value is None where the counts do not determine it.
    """
    declared = {source.name: source.count for source in recipe.sources}
    rows = []
    for arm in recipe.arms:
        images = declared[arm.seeds] if arm.seeds else None
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
    """Return Σ final, where an image counts once per claim; None if it is unknown for an arm."""
    finals = [row["final"] for row in composition]
    return None if None in finals else sum(finals)


def balance_limits(recipe: Recipe) -> list[str]:
    """Return what `balance` keeps of the expected images at most, a sentence for each of its limits."""
    balance = recipe.balance
    of_sets = sorted(balance.per_seed_set.items())
    limits: list[tuple[str, int | None, str]] = [
        (f"per_seed_set.{name}", cap, f" that the arms of {name} claim") for name, cap in of_sets
    ]
    limits.append(
        ("per_cluster", balance.per_cluster, f" of each cluster of level {balance.level}")
    )
    limits.append(("per_host", balance.per_host, " of each host"))
    limits.append(("target", balance.target, ""))
    return [
        f"balance.{name} keeps {largest:,} images{which} at most."
        for name, largest, which in limits
        if largest is not None
    ]


def composition_of(claims: Manifest) -> tuple[list[dict[str, Any]], int]:
    """Return the composition of a run and Σ final.

    `final` counts claims, as the published tables do. `final_images` counts the different images of an
    arm; it is None in manifests that are older than the field. An image of several arms counts in each.

    Raises:
        StoreError: the sums do not agree with the rows of `claims`.
    """
    # The manifest has its keys sorted; people read the counts in the order in which they arise.
    rows = [
        {name: row.get(name) if name == "final_images" else row[name] for name in COLUMNS}
        for row in claims.stats["composition"]
    ]
    total = sum(row["final"] for row in rows)
    for row in rows:
        if row["retrieved"] != row["capped"] + row["final"]:
            problem = f"arm {row['arm']!r} does not balance: retrieved ≠ capped + final in {row}"
            raise _damaged(f"The composition of {problem}", row)
    if total != claims.rows:
        problem = f"counts {total} claims, but the table has {claims.rows} rows"
        raise _damaged(f"The composition {problem}", total)
    return rows, total


def _damaged(message: str, value: Any) -> StoreError:
    """Return the error of a composition that cannot be."""
    fix = "Its manifest was changed or damaged: delete tables/claims and run the recipe again"
    return StoreError(Detail(message, "claims", value, fix=fix))
