"""retrieve: what each arm claims, with the evidence. Narrow: identities only."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from curation.cluster.levels import at_level, read_parents
from curation.composition import told_target
from curation.fragment import Table
from curation.params import BalanceParams, RetrieveStep
from curation.retrieve.arm import Arm
from curation.retrieve.balance import balanced
from curation.retrieve.evidence import Claimed, Evidence, Matches, Members
from curation.retrieve.strategies import STRATEGIES
from curation.table import contract
from curation.units import Context, Rows

logger = logging.getLogger(__name__)


def retrieve(  # noqa: PLR0913  an argument a table
    images: Table,
    eligible: Table,
    centroids: Table,
    assignments: Table,
    matches: Table,
    *,
    params: RetrieveStep,
    context: Context,
) -> Rows:
    """Run every arm, balance what they claim, and keep all claims on an image.

    Yields:
        (fragment of the row that stands for the image, batch of `claims`).

    Returns:
        `composition`, a row an arm: rows of the seed set, its eligible images, claims requested by
        the parameters, available to take, retrieved, images among them, claims capped away (by the
        arm or by `balance`), final claims, and the shortfall (requested − retrieved, at least 0).
        `target`, where `balance` has one: images requested, final, and the shortfall.
    """
    rows = _read_rows(eligible, assignments)
    parents = read_parents(centroids)
    evidence = _evidence(rows, parents, matches, params)
    claimed = {
        arm.name: import_module(STRATEGIES[arm.strategy]).claim(arm, evidence, params.seed)
        for arm in params.arms
    }
    table = pd.concat([_frame(arm, claimed[arm.name]) for arm in params.arms], ignore_index=True)
    place = _places(table, rows)
    if len(table) and params.balance != BalanceParams():
        facts = _facts(place, images, parents, params)
        table = table[balanced(table, facts, params.balance, params.seed)]
    final = table["arm"].value_counts()
    composition = [
        _composition(arm, evidence, claimed[arm.name], int(final.get(arm.name, 0)))
        for arm in params.arms
    ]
    stats = {"composition": composition, "total_images": sum(c["final"] for c in composition)}
    if params.balance.target is not None:
        stats["target"] = _target(params.balance.target, table["image_id"].nunique())
    _warn(stats)
    table = table.join(place[["pair_id", "fragment"]], on="image_id")
    names = list(contract("claims").names)
    schema = contract("claims").arrow_schema()
    table = table.sort_values(["image_id", "arm", "seed_image_id", "rank"])
    for fragment, own in table.groupby("fragment"):
        yield fragment, pa.RecordBatch.from_pandas(own[names], schema, preserve_index=False)
    return stats


def _target(requested: int, final: int) -> dict[str, int]:
    return {"requested": requested, "final": final, "shortfall": max(requested - final, 0)}


def _warn(stats: Mapping[str, Any]) -> None:
    """Say what a person would not expect: arms that find nothing, a target out of reach."""
    for arm in stats["composition"]:
        if not arm["retrieved"]:
            logger.warning(
                "retrieve: arm %r finds nothing: %d rows of its seed set, %d eligible images among "
                "them, %d claims requested, %d available",
                *(arm[n] for n in ("arm", "seed_rows", "seed_images", "requested", "available")),
            )
    target = stats.get("target", {})
    if target.get("shortfall"):
        logger.warning("retrieve: balance.target: %s", told_target(target))


def _read_rows(eligible: Table, assignments: Table) -> pd.DataFrame:
    """Return every row of pool and seeds with its cluster and fragment."""
    clusters = assignments.fragments
    parts = []
    for name, fragment in eligible.fragments.items():
        part = fragment.read(["pair_id", "image_id", "role", "source", "status"]).to_pandas()
        own = clusters[name].read(["cluster_id", "similarity"])
        cluster = own.column("cluster_id").to_pandas().fillna(-1)
        parts.append(
            part.assign(
                cluster_id=cluster.astype(np.int32),
                similarity=own.column("similarity").to_pandas().astype(np.float32),
                fragment=name,
            )
        )
    rows: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return rows


def _evidence(
    rows: pd.DataFrame,
    parents: tuple[npt.NDArray[np.int32], ...],
    matches: Table,
    params: RetrieveStep,
) -> Evidence:
    fit = rows[rows["status"] == "eligible"]
    pool = _members(fit[fit["role"] == "pool"])
    seeds = fit[fit["role"] == "seed"]
    asked = rows[rows["role"] == "seed"]["source"].value_counts()
    names = sorted({arm.seeds for arm in params.arms if arm.seeds})
    table = matches.read().to_pandas()
    return Evidence(
        pool=pool,
        seeds={name: _members(seeds[seeds["source"] == name]) for name in names},
        rows_asked={name: int(asked.get(name, 0)) for name in names},
        found={name: _matches(table[table["seed_set"] == name]) for name in names},
        parents=parents,
    )


def _members(rows: pd.DataFrame) -> Members:
    own = rows.sort_values("image_id").drop_duplicates("image_id")
    return Members(
        _ids(own["image_id"]),
        own["cluster_id"].to_numpy(np.int32),
        own["similarity"].to_numpy(np.float32),
    )


def _matches(rows: pd.DataFrame) -> Matches:
    return Matches(
        _ids(rows["seed_image_id"]),
        _ids(rows["image_id"]),
        rows["similarity"].to_numpy(np.float32),
        rows["rank"].to_numpy(np.int32),
    )


def _ids(column: pd.Series[Any]) -> npt.NDArray[np.bytes_]:
    return column.to_numpy().astype("S32")


def _composition(arm: Arm, evidence: Evidence, claimed: Claimed, final: int) -> dict[str, Any]:
    counts = {
        "seed_rows": evidence.seed_rows(arm.seeds) if arm.seeds else 0,
        "seed_images": len(evidence.seed_images(arm.seeds)) if arm.seeds else 0,
        "requested": claimed.requested,
        "available": claimed.available,
        "retrieved": claimed.retrieved,
        "unique": claimed.unique,
        "capped": claimed.retrieved - final,
        "final": final,
        "shortfall": max(claimed.requested - claimed.retrieved, 0),
    }
    return {"arm": arm.name, "seed_set": arm.seeds, "strategy": arm.strategy} | counts


def _frame(arm: Arm, claimed: Claimed) -> pd.DataFrame:
    def column(values: npt.NDArray[Any] | None, kind: str) -> pd.Series[Any]:
        if values is None:
            return pd.Series([None] * len(claimed.images), dtype=object)
        return pd.Series(values.astype(kind) if kind == "U32" else values).astype(object)

    return pd.DataFrame(
        {
            "arm": arm.name,
            "seed_set": arm.seeds,
            "strategy": arm.strategy,
            "image_id": column(claimed.images, "U32"),
            "seed_image_id": column(claimed.seed_images, "U32"),
            "similarity": column(claimed.similarity, "f4"),
            "rank": column(claimed.rank, "i4"),
            "cluster_id": column(claimed.cluster_id, "i4"),
        }
    )


def _places(claims: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the one row that stands for each claimed image, by image_id.

    A seed set's own row, which its curators described, goes before the pool's, but only where an arm
    takes the seed images as they are.
    """
    fit = rows[rows["status"] == "eligible"]
    as_is = claims.loc[claims["strategy"] == "as_is", "seed_set"].unique()
    fit = fit[(fit["role"] == "pool") | fit["source"].isin(as_is)]
    fit = fit[fit["image_id"].isin(claims["image_id"].unique())]
    order = fit.assign(after=(fit["role"] == "pool")).sort_values(["image_id", "after", "pair_id"])
    place: pd.DataFrame = order.drop_duplicates("image_id").set_index("image_id")
    return place[["pair_id", "fragment", "source", "cluster_id"]]


def _facts(
    place: pd.DataFrame,
    images: Table,
    parents: tuple[npt.NDArray[np.int32], ...],
    params: RetrieveStep,
) -> pd.DataFrame:
    """Return what balance looks at, a row a claimed image: source, cluster and host."""
    clusters = at_level(params.balance.level, place["cluster_id"].to_numpy(np.int32), parents)
    facts = place.assign(cluster_id=pd.Series(clusters, index=place.index).where(clusters >= 0))
    if params.balance.per_host is not None:
        facts["host"] = _hosts(place, images)
    return facts


def _hosts(place: pd.DataFrame, images: Table) -> pd.Series[Any]:
    """Return the host that each image came from; none for an image without a URL."""
    parts = []
    for name, own in place.groupby("fragment"):
        table = images.fragments[str(name)].read(["pair_id", "status", "url"]).to_pandas()
        table = table[(table["status"] == "ok") & table["pair_id"].isin(own["pair_id"])]
        parts.append(table.drop_duplicates("pair_id").set_index("pair_id")["url"])
    urls = pd.concat(parts).reindex(place["pair_id"])
    hosts = [urlsplit(url).hostname if isinstance(url, str) else None for url in urls]
    return pd.Series(hosts, index=place.index, dtype=object)
