"""retrieve: what each arm claims, with the evidence. Narrow: identities only."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from curation.fragment import Table
from curation.params import RetrieveStep
from curation.retrieve.arm import Arm
from curation.retrieve.evidence import Claimed, Evidence, Matches, Members
from curation.retrieve.strategies import STRATEGIES
from curation.table import contract
from curation.units import Context, Rows


def retrieve(
    eligible: Table, assignments: Table, matches: Table, *, params: RetrieveStep, context: Context
) -> Rows:
    """Run every arm and keep all claims on an image.

    Yields:
        (fragment of the row that stands for the image, batch of `claims`).

    Returns:
        `composition`, a row an arm: rows of the seed set, its eligible images, claims requested by
        the parameters, available to take, retrieved, images among them, claims capped away, final
        claims, and the shortfall (requested − retrieved, at least 0).
    """
    rows = _read_rows(eligible, assignments)
    evidence = _evidence(rows, matches, params)
    claims, composition = [], []
    for arm in params.arms:
        claimed = import_module(STRATEGIES[arm.strategy]).claim(arm, evidence, params.seed)
        composition.append(_composition(arm, evidence, claimed))
        claims.append(_frame(arm, claimed))
    table = _placed(pd.concat(claims, ignore_index=True), rows)
    names = list(contract("claims").names)
    schema = contract("claims").arrow_schema()
    table = table.sort_values(["image_id", "arm", "seed_image_id"])
    for fragment, own in table.groupby("fragment"):
        yield fragment, pa.RecordBatch.from_pandas(own[names], schema, preserve_index=False)
    return {"composition": composition, "total_images": sum(c["final"] for c in composition)}


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


def _evidence(rows: pd.DataFrame, matches: Table, params: RetrieveStep) -> Evidence:
    fit = rows[rows["status"] == "eligible"]
    pool = _members(fit[fit["role"] == "pool"])
    seeds = fit[fit["role"] == "seed"]
    asked = rows[rows["role"] == "seed"]["source"].value_counts()
    names = sorted({arm.seeds for arm in params.arms})
    table = matches.read().to_pandas()
    return Evidence(
        pool=pool,
        seeds={name: _members(seeds[seeds["source"] == name]) for name in names},
        rows_asked={name: int(asked.get(name, 0)) for name in names},
        found={name: _matches(table[table["seed_set"] == name]) for name in names},
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


def _composition(arm: Arm, evidence: Evidence, claimed: Claimed) -> dict[str, Any]:
    counts = {
        "seed_rows": evidence.seed_rows(arm.seeds),
        "seed_images": len(evidence.seed_images(arm.seeds)),
        "requested": claimed.requested,
        "available": claimed.available,
        "retrieved": claimed.retrieved,
        "unique": claimed.unique,
        "capped": claimed.dropped,
        "final": len(claimed.images),
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


def _placed(claims: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Add the one row that stands for each claimed image.

    A seed set's own row, which its curators described, goes before the pool's, but only where an arm
    takes the seed images as they are.
    """
    fit = rows[rows["status"] == "eligible"]
    as_is = claims.loc[claims["strategy"] == "as_is", "seed_set"].unique()
    fit = fit[(fit["role"] == "pool") | fit["source"].isin(as_is)]
    order = fit.assign(after=(fit["role"] == "pool")).sort_values(["image_id", "after", "pair_id"])
    place = order.drop_duplicates("image_id")[["image_id", "pair_id", "fragment"]]
    placed: pd.DataFrame = claims.merge(place, how="left", on="image_id", validate="many_to_one")
    return placed
