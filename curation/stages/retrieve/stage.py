"""retrieve: what each arm claims, with the evidence. Narrow: identities only."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Ids
from curation.algorithms.kmeans.levels import at_level, read_parents
from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.runs import positions_in
from curation.engine.table import Table
from curation.engine.units import StageOutput
from curation.stages.retrieve.balance import apply_balance, describe_target
from curation.stages.retrieve.params import BalanceParams, RetrieveStep
from curation.stages.retrieve.strategies import STRATEGIES
from curation.stages.retrieve.strategies.arm import Arm
from curation.stages.retrieve.strategies.evidence import (
    ArmClaims,
    EligibleImages,
    Evidence,
    Matches,
)

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
) -> StageOutput:
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
        arm.name: STRATEGIES.load(arm.strategy).claim(arm, evidence, params.seed)
        for arm in params.arms
    }
    table = pd.concat([_frame(arm, claimed[arm.name]) for arm in params.arms], ignore_index=True)
    place = _places(table, rows, eligible)
    if len(table) and params.balance != BalanceParams():
        facts = _facts(place, images, parents, params)
        table = table[apply_balance(table, facts, params.balance, params.seed)]
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
        logger.warning("retrieve: balance.target: %s", describe_target(target))


@dataclass(frozen=True)
class EligibleRows:
    """The eligible rows of pool and seeds, in narrow columns: one machine holds a hundred million.

    `fragment` numbers `fragments`, each of which has one role and source; `row` is the place there.
    Arrays have shape (n,).
    """

    fragments: tuple[str, ...]
    roles: npt.NDArray[np.str_]
    sources: npt.NDArray[np.str_]
    asked: Mapping[str, int]
    images: Ids
    fragment: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]
    cluster_id: npt.NDArray[np.int32]
    similarity: npt.NDArray[np.float32]

    def of(self, role: str, source: str | None = None) -> npt.NDArray[np.int64]:
        """Return the rows of a role, of one source if it is named."""
        own = self.roles == role
        if source is not None:
            own &= self.sources == source
        return np.flatnonzero(own[self.fragment])


def _read_rows(eligible: Table, assignments: Table) -> EligibleRows:
    """Return every eligible row of pool and seeds with its cluster and fragment."""
    clusters = assignments.fragments
    parts, roles, sources = [], [], []
    asked: dict[str, int] = {}
    for number, (name, fragment) in enumerate(eligible.fragments.items()):
        rows = fragment.read(["image_id", "role", "source", "status"])
        role = rows.column("role")[0].as_py() if len(rows) else ""
        source = rows.column("source")[0].as_py() if len(rows) else ""
        roles.append(role)
        sources.append(source)
        if role == "seed":
            asked[source] = asked.get(source, 0) + len(rows)
        fit = np.flatnonzero(rows.column("status").to_numpy() == "eligible").astype(np.int32)
        own = clusters[name].read(["cluster_id", "similarity"])
        parts.append(
            (
                to_ids(rows.column("image_id").take(pa.array(fit))),
                np.full(len(fit), number, np.int32),
                fit,
                pc.fill_null(own.column("cluster_id"), -1).to_numpy()[fit].astype(np.int32),
                own.column("similarity").to_numpy()[fit].astype(np.float32),
            )
        )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    names = tuple(eligible.fragments)
    return EligibleRows(names, np.array(roles), np.array(sources), asked, *columns)


def _evidence(
    rows: EligibleRows,
    parents: tuple[npt.NDArray[np.int32], ...],
    matches: Table,
    params: RetrieveStep,
) -> Evidence:
    names = sorted({arm.seeds for arm in params.arms if arm.seeds})
    table = matches.read().to_pandas()
    return Evidence(
        pool=_members(rows, rows.of("pool")),
        seeds={name: _members(rows, rows.of("seed", name)) for name in names},
        seed_rows_by_set={name: rows.asked.get(name, 0) for name in names},
        matches_by_set={name: _matches(table[table["seed_set"] == name]) for name in names},
        parents=parents,
    )


def _members(rows: EligibleRows, own: npt.NDArray[np.int64]) -> EligibleImages:
    images, first = np.unique(rows.images[own], return_index=True)
    own = own[first]
    return EligibleImages(images, rows.cluster_id[own], rows.similarity[own])


def _matches(rows: pd.DataFrame) -> Matches:
    return Matches(
        _ids(rows["seed_image_id"]),
        _ids(rows["image_id"]),
        rows["similarity"].to_numpy(np.float32),
        rows["rank"].to_numpy(np.int32),
    )


def _ids(column: pd.Series[Any]) -> npt.NDArray[np.bytes_]:
    return column.to_numpy().astype("S32")


def _composition(arm: Arm, evidence: Evidence, claimed: ArmClaims, final: int) -> dict[str, Any]:
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


def _frame(arm: Arm, claimed: ArmClaims) -> pd.DataFrame:
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


def _places(claims: pd.DataFrame, rows: EligibleRows, eligible: Table) -> pd.DataFrame:
    """Return the one row that stands for each claimed image, by image_id.

    A seed set's own row, which its curators described, goes before the pool's, but only where an arm
    takes the seed images as they are.
    """
    claimed = np.unique(_ids(claims["image_id"]))
    as_is = claims.loc[claims["strategy"] == "as_is", "seed_set"].unique()
    taken = (rows.roles == "pool") | np.isin(rows.sources, as_is)
    parts = []
    # The rows of a fragment stand together.
    ends = np.searchsorted(rows.fragment, np.arange(len(rows.fragments) + 1))
    for number in np.flatnonzero(taken).tolist():
        own = np.arange(ends[number], ends[number + 1])
        own = own[positions_in(rows.images[own], claimed)[1]]
        if not len(own):
            continue
        name = rows.fragments[number]
        pairs = eligible.fragments[name].read(["pair_id"]).column("pair_id")
        part = {
            "image_id": rows.images[own].astype("U32"),
            "pair_id": pairs.take(pa.array(rows.row[own])).to_pandas(),
            "fragment": name,
            "source": rows.sources[number],
            "cluster_id": rows.cluster_id[own],
            "after": rows.roles[number] == "pool",
        }
        parts.append(pd.DataFrame(part))
    names = ["pair_id", "fragment", "source", "cluster_id"]
    if not parts:
        return pd.DataFrame(columns=names, index=pd.Index([], dtype=object, name="image_id"))
    order = pd.concat(parts).sort_values(["image_id", "after", "pair_id"])
    place: pd.DataFrame = order.drop_duplicates("image_id").set_index("image_id").loc[:, names]
    return place


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
