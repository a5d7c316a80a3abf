"""retrieve: the images that each arm claims, with the evidence of each claim."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Ids, RowNumbers
from curation.algorithms.kmeans.levels import at_level, read_parents
from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.sorted_arrays import positions_in
from curation.engine.table import Table
from curation.engine.units import StageOutput
from curation.media.web.urls import host_in
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


def retrieve(  # noqa: PLR0913  one argument per table
    images: Table,
    eligible: Table,
    centroids: Table,
    assignments: Table,
    matches: Table,
    *,
    params: RetrieveStep,
    context: Context,
) -> StageOutput:
    """Run every arm, balance their claims, and keep all claims on an image.

    Yields:
        (fragment of the row that represents the image, batch of `claims`).

    Returns:
        `composition`, one row per arm: number of rows of its seed set, eligible images among them,
        claims that its parameters request, claims that are available, claims retrieved, different
        images among these, claims dropped by a cap of the arm or of `balance`, final claims, and
        the shortfall (requested - retrieved, at least 0). `total_images`: all final claims.
        `target`, if `balance` has
        one: number of images requested, final images, and the shortfall.
    """
    rows = _read_rows(eligible, assignments)
    parents = read_parents(centroids)
    evidence = _evidence(rows, parents, matches, params)
    arm_claims = {
        arm.name: STRATEGIES.load(arm.strategy).claim(arm, evidence, params.seed)
        for arm in params.arms
    }
    claims = pd.concat(
        [_frame(arm, arm_claims[arm.name]) for arm in params.arms], ignore_index=True
    )
    image_rows = _rows_of_images(claims, rows, eligible)
    if len(claims) and params.balance != BalanceParams():
        properties = _image_properties(image_rows, images, parents, params)
        claims = claims[apply_balance(claims, properties, params.balance, params.seed)]
    stats = _stats(params, evidence, arm_claims, claims)
    _warn(stats)
    claims = claims.join(image_rows[["pair_id", "fragment"]], on="image_id")
    names = list(contract("claims").names)
    schema = contract("claims").arrow_schema()
    claims = claims.sort_values(["image_id", "arm", "seed_image_id", "rank"])
    for fragment, part in claims.groupby("fragment"):
        yield fragment, pa.RecordBatch.from_pandas(part[names], schema, preserve_index=False)
    return stats


def _stats(
    params: RetrieveStep,
    evidence: Evidence,
    arm_claims: Mapping[str, ArmClaims],
    claims: pd.DataFrame,
) -> dict[str, Any]:
    """Return the measurements of the stage; `claims` are those that are left after `balance`."""
    final = claims["arm"].value_counts()
    composition = [
        _composition(arm, evidence, arm_claims[arm.name], int(final.get(arm.name, 0)))
        for arm in params.arms
    ]
    stats: dict[str, Any] = {
        "composition": composition,
        "total_images": sum(row["final"] for row in composition),
    }
    requested = params.balance.target
    if requested is not None:
        images = claims["image_id"].nunique()
        shortfall = max(requested - images, 0)
        stats["target"] = {"requested": requested, "final": images, "shortfall": shortfall}
    return stats


def _warn(stats: Mapping[str, Any]) -> None:
    """Warn about arms that retrieve nothing, and about a target that is not reached."""
    for arm in stats["composition"]:
        if not arm["retrieved"]:
            logger.warning(
                "retrieve: arm %r finds nothing: %d rows in its seed set, %d of them eligible images, "
                "%d claims requested, %d available",
                *(arm[n] for n in ("arm", "seed_rows", "seed_images", "requested", "available")),
            )
    target = stats.get("target", {})
    if target.get("shortfall"):
        logger.warning("retrieve: balance.target: %s", describe_target(target))


@dataclass(frozen=True)
class EligibleRows:
    """The eligible rows of pool and seeds, about 50 bytes each: one machine holds a hundred million.

    Attributes:
        fragments: names of all fragments.
        roles: role of each fragment.
        sources: source of each fragment.
        requested: number of rows of each seed set, eligible or not.
        images: image id of each eligible row, (n,).
        fragment: number of its fragment, ascending, (n,).
        row: its row in that fragment, (n,).
        cluster_id: its cluster of level 0, or -1, (n,).
        similarity: cosine similarity to the centroid, (n,).
    """

    fragments: tuple[str, ...]
    roles: npt.NDArray[np.str_]
    sources: npt.NDArray[np.str_]
    requested: Mapping[str, int]
    images: Ids
    fragment: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]
    cluster_id: npt.NDArray[np.int32]
    similarity: npt.NDArray[np.float32]

    def of(self, role: str, source: str | None = None) -> npt.NDArray[np.int64]:
        """Return the numbers of the rows of a role, or of one source of this role."""
        fragments = self.roles == role
        if source is not None:
            fragments &= self.sources == source
        return np.flatnonzero(fragments[self.fragment])


def _read_rows(eligible: Table, assignments: Table) -> EligibleRows:
    """Return every eligible row of pool and seeds, with its cluster and fragment."""
    parts, roles, sources = [], [], []
    requested: dict[str, int] = {}
    for number, (name, fragment) in enumerate(eligible.fragments.items()):
        rows = fragment.read(["image_id", "role", "source", "status"])
        role = rows.column("role")[0].as_py() if len(rows) else ""
        source = rows.column("source")[0].as_py() if len(rows) else ""
        roles.append(role)
        sources.append(source)
        if role == "seed":
            requested[source] = requested.get(source, 0) + len(rows)
        row = np.flatnonzero(rows.column("status").to_numpy() == "eligible").astype(np.int32)
        clusters = assignments.fragments[name].read(["cluster_id", "similarity"])
        parts.append(
            (
                to_ids(rows.column("image_id").take(pa.array(row))),
                np.full(len(row), number, np.int32),
                row,
                pc.fill_null(clusters.column("cluster_id"), -1).to_numpy()[row].astype(np.int32),
                clusters.column("similarity").to_numpy()[row].astype(np.float32),
            )
        )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    names = tuple(eligible.fragments)
    return EligibleRows(names, np.array(roles), np.array(sources), requested, *columns)


def _evidence(
    rows: EligibleRows,
    parents: tuple[npt.NDArray[np.int32], ...],
    matches: Table,
    params: RetrieveStep,
) -> Evidence:
    names = sorted({arm.seeds for arm in params.arms if arm.seeds})
    table = matches.read().to_pandas()
    return Evidence(
        pool=_images_of(rows, rows.of("pool")),
        seeds={name: _images_of(rows, rows.of("seed", name)) for name in names},
        seed_rows_by_set={name: rows.requested.get(name, 0) for name in names},
        matches_by_set={name: _matches(table[table["seed_set"] == name]) for name in names},
        parents=parents,
    )


def _images_of(rows: EligibleRows, numbers: RowNumbers) -> EligibleImages:
    """Return the different images of some rows."""
    images, first = np.unique(rows.images[numbers], return_index=True)
    numbers = numbers[first]
    return EligibleImages(images, rows.cluster_id[numbers], rows.similarity[numbers])


def _matches(rows: pd.DataFrame) -> Matches:
    return Matches(
        _ids(rows["seed_image_id"]),
        _ids(rows["image_id"]),
        rows["similarity"].to_numpy(np.float32),
        rows["rank"].to_numpy(np.int32),
    )


def _ids(column: pd.Series[Any]) -> npt.NDArray[np.bytes_]:
    return column.to_numpy().astype("S32")


def _composition(arm: Arm, evidence: Evidence, claims: ArmClaims, final: int) -> dict[str, Any]:
    counts = {
        "seed_rows": evidence.seed_rows(arm.seeds) if arm.seeds else 0,
        "seed_images": len(evidence.seed_images(arm.seeds)) if arm.seeds else 0,
        "requested": claims.requested,
        "available": claims.available,
        "retrieved": claims.retrieved,
        "unique": claims.unique,
        "capped": claims.retrieved - final,
        "final": final,
        "shortfall": max(claims.requested - claims.retrieved, 0),
    }
    return {"arm": arm.name, "seed_set": arm.seeds, "strategy": arm.strategy} | counts


def _frame(arm: Arm, claims: ArmClaims) -> pd.DataFrame:
    """Return the claims of an arm with the columns of the table `claims`, but for the row's."""

    def column(values: npt.NDArray[Any] | None, kind: str) -> pd.Series[Any]:
        if values is None:
            return pd.Series([None] * len(claims.images), dtype=object)
        return pd.Series(values.astype(kind) if kind == "U32" else values).astype(object)

    return pd.DataFrame(
        {
            "arm": arm.name,
            "seed_set": arm.seeds,
            "strategy": arm.strategy,
            "image_id": column(claims.images, "U32"),
            "seed_image_id": column(claims.seed_images, "U32"),
            "similarity": column(claims.similarity, "f4"),
            "rank": column(claims.rank, "i4"),
            "cluster_id": column(claims.cluster_id, "i4"),
        }
    )


def _rows_of_images(claims: pd.DataFrame, rows: EligibleRows, eligible: Table) -> pd.DataFrame:
    """Return the one row that represents each claimed image, by image_id.

    A row of a seed set goes before one of the pool, because curators wrote its caption, but only if an
    arm takes the images of that set as they are.

    Returns:
        Columns pair_id, fragment, source and cluster_id.
    """
    claimed = np.unique(_ids(claims["image_id"]))
    as_is = claims.loc[claims["strategy"] == "as_is", "seed_set"].unique()
    usable = (rows.roles == "pool") | np.isin(rows.sources, as_is)
    ends = np.searchsorted(rows.fragment, np.arange(len(rows.fragments) + 1))
    parts = []
    for fragment in np.flatnonzero(usable).tolist():
        numbers = np.arange(ends[fragment], ends[fragment + 1])
        numbers = numbers[positions_in(rows.images[numbers], claimed)[1]]
        if len(numbers):
            parts.append(_claimed_rows(rows, fragment, numbers, eligible))
    names = ["pair_id", "fragment", "source", "cluster_id"]
    if not parts:
        return pd.DataFrame(columns=names, index=pd.Index([], dtype=object, name="image_id"))
    in_order = pd.concat(parts).sort_values(["image_id", "is_pool", "pair_id"])
    first: pd.DataFrame = in_order.drop_duplicates("image_id").set_index("image_id").loc[:, names]
    return first


def _claimed_rows(
    rows: EligibleRows, fragment: int, numbers: RowNumbers, eligible: Table
) -> pd.DataFrame:
    """Return some rows of one fragment, which all have its role and source."""
    name = rows.fragments[fragment]
    pair_ids = eligible.fragments[name].read(["pair_id"]).column("pair_id")
    columns = {
        "image_id": rows.images[numbers].astype("U32"),
        "pair_id": pair_ids.take(pa.array(rows.row[numbers])).to_pandas(),
        "fragment": name,
        "source": rows.sources[fragment],
        "cluster_id": rows.cluster_id[numbers],
        "is_pool": rows.roles[fragment] == "pool",
    }
    return pd.DataFrame(columns)


def _image_properties(
    image_rows: pd.DataFrame,
    images: Table,
    parents: tuple[npt.NDArray[np.int32], ...],
    params: RetrieveStep,
) -> pd.DataFrame:
    """Return the columns that `apply_balance` needs, one row per claimed image, by image_id."""
    clusters = at_level(params.balance.level, image_rows["cluster_id"].to_numpy(np.int32), parents)
    cluster_id = pd.Series(clusters, index=image_rows.index).where(clusters >= 0)
    properties = image_rows.assign(cluster_id=cluster_id)
    if params.balance.per_host is not None:
        properties["host"] = _hosts(image_rows, images)
    return properties


def _hosts(image_rows: pd.DataFrame, images: Table) -> pd.Series[Any]:
    """Return the host of each image's URL by image_id; None for an image without a URL."""
    parts = []
    for name, group in image_rows.groupby("fragment"):
        table = images.fragments[str(name)].read(["pair_id", "status", "url"]).to_pandas()
        table = table[(table["status"] == "ok") & table["pair_id"].isin(group["pair_id"])]
        parts.append(table.drop_duplicates("pair_id").set_index("pair_id")["url"])
    urls = pd.concat(parts).reindex(image_rows["pair_id"])
    hosts = [host_in(url) if isinstance(url, str) else None for url in urls]
    return pd.Series(hosts, index=image_rows.index, dtype=object)
