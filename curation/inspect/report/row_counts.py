"""Rows in and out of each stage, checked: the books balance if rows in = rows out + rows dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow.compute as pc

from curation.engine.table import Table
from curation.errors import Detail, StoreError
from curation.inspect.lineage import Lineage
from curation.media.encoders.params import EMBEDDINGS
from curation.store.manifest import count_outcomes, sum_counts
from curation.store.store import DATASET

ROLES = ("pool", "seed", "held_out")
NOT_CLAIMED = "not_claimed"
NO_PIXELS = ("skipped", "no_pixels")


@dataclass(frozen=True)
class StageCounts:
    """Rows of one role (or `all`) that a stage gets, passes on, and drops by reason."""

    stage: str
    role: str
    rows_in: int
    rows_out: int
    dropped: Mapping[str, int]

    @property
    def rows_dropped(self) -> int:
        """Rows that the stage drops, for all reasons together."""
        return sum(self.dropped.values())


@dataclass(frozen=True)
class DatasetCounts:
    """Counts of the dataset and its claims: rows, Σ weight, rows by role, claims."""

    rows: int
    weight: int
    by_role: Mapping[str, int]
    claims: int


def count_dataset(lineage: Lineage, total: int) -> DatasetCounts:
    """Count the dataset and its claims.

    Args:
        lineage: the tables of the run.
        total: Σ final of the composition.

    Raises:
        StoreError: Σ final, Σ weight, rows and distinct claimed images do not agree.
    """
    dataset, claims = lineage[DATASET], lineage["claims"]
    weight, by_role = 0, dict.fromkeys(ROLES, 0)
    for fragment in dataset.fragments.values():
        rows = fragment.read(["role", "weight"])
        weight += pc.sum(rows.column("weight")).as_py() or 0
        for role in pc.value_counts(rows.column("role")).to_pylist():
            by_role[role["values"]] += role["counts"]
    # All claims on an image are in one fragment, that of the row that represents the image.
    images = sum(
        pc.count_distinct(f.read(["image_id"]).column("image_id")).as_py()
        for f in claims.fragments.values()
    )
    counts = DatasetCounts(dataset.rows, weight, by_role, claims.rows)
    if weight != total:
        raise _imbalance("assemble", f"Σ weight of the dataset is {weight}, Σ final is {total}")
    if counts.rows != images:
        raise _imbalance("assemble", f"{counts.rows} rows, but {images} distinct claimed images")
    if sum(by_role.values()) != counts.rows:
        raise _imbalance("assemble", f"{counts.rows} rows, but by role {by_role}")
    return counts


def count_stages(lineage: Lineage, dataset: DatasetCounts) -> list[StageCounts]:
    """Return the row counts of every stage and role, in the order of the flow.

    Raises:
        StoreError: the rows of a stage do not balance, or tables disagree; the message names the stage.
    """
    tables = ["pairs", "images", *(EMBEDDINGS.table(e) for e in lineage.embeddings), "eligible"]
    for name in tables:
        _check_table(lineage[name], lineage["pairs"])
    lines = [line for line in _stage_counts(lineage, dataset) if line.rows_in or line.rows_dropped]
    for line in lines:
        negative = [reason for reason, rows in line.dropped.items() if rows < 0]
        if negative or line.rows_in != line.rows_out + line.rows_dropped:
            raise _imbalance(
                line.stage,
                f"{line.role}: {line.rows_in} rows in, {line.rows_out} out, dropped "
                f"{dict(line.dropped)}",
            )
    return lines


def _stage_counts(lineage: Lineage, dataset: DatasetCounts) -> Iterator[StageCounts]:
    pairs = lineage["pairs"].manifest.counts
    images = lineage["images"].manifest.counts
    eligible = lineage["eligible"].manifest.counts
    roles = [role for role in ROLES if role in pairs]
    to_fetch = {role: pairs[role].get("ok", 0) for role in roles}
    fetched = {role: images.get(role, {}).get("ok", 0) for role in roles}
    fit = {role: eligible.get(role, {}).get("eligible", 0) for role in roles}
    for role in roles:
        dropped = _newly_dropped(pairs, {}, role, "ok")
        yield StageCounts("ingest", role, sum(pairs[role].values()), to_fetch[role], dropped)
    for role in roles:
        dropped = _newly_dropped(images, pairs, role, "ok")
        yield StageCounts("fetch", role, to_fetch[role], fetched[role], dropped)
    for encoder, table in lineage.embeddings.items():
        yield _embed_counts(encoder, table, sum(fetched.values()))
    for role in roles:
        dropped = _newly_dropped(eligible, images, role, "eligible")
        yield StageCounts("select", role, fetched[role], fit[role], dropped)
    for role in roles:
        unclaimed = fit[role] - dataset.by_role[role]
        dropped = {NOT_CLAIMED: unclaimed} if unclaimed else {}
        yield StageCounts("retrieve", role, fit[role], dataset.by_role[role], dropped)


def _embed_counts(encoder: str, embeddings: Table, images: int) -> StageCounts:
    outcomes = count_outcomes([embeddings.manifest.counts])
    dropped = {r: rows for r, rows in outcomes.items() if r not in (*NO_PIXELS, "ok")}
    return StageCounts(f"embed {encoder}", "all", images, outcomes.get("ok", 0), dropped)


def _newly_dropped(
    counts: Mapping[str, Mapping[str, int]],
    earlier: Mapping[str, Mapping[str, int]],
    role: str,
    passed: str,
) -> dict[str, int]:
    """Return what a table drops by reason, without what the table before it had already dropped.

    Args:
        counts: rows by role and outcome of the table.
        earlier: the same of the table before.
        role: the role to look at.
        passed: the outcome of rows that the table passes on.
    """
    after, before = counts.get(role, {}), earlier.get(role, {})
    reasons = sorted({*after, *before} - {passed, "ok"})
    dropped = {reason: after.get(reason, 0) - before.get(reason, 0) for reason in reasons}
    return {reason: rows for reason, rows in dropped.items() if rows}


def _check_table(table: Table, pairs: Table) -> None:
    """Check that a manifest agrees with its fragments, and its rows with those of `pairs`."""
    manifest = table.manifest
    counted = sum(sum(outcomes.values()) for outcomes in manifest.counts.values())
    if (
        manifest.counts != sum_counts(r.counts for r in manifest.fragments)
        or counted != manifest.rows
    ):
        raise _imbalance(
            manifest.stage,
            f"the fragments of table {manifest.table!r} have {manifest.rows} rows, its manifest counts "
            f"{counted} rows by role and outcome",
        )
    rows = {r.name: r.rows for r in manifest.fragments}
    expected = {r.name: r.rows for r in pairs.manifest.fragments}
    if rows != expected:
        differ = sorted(n for n in {*rows, *expected} if rows.get(n) != expected.get(n))
        raise _imbalance(
            manifest.stage,
            f"table {manifest.table!r} has {manifest.rows} rows, `pairs` has {pairs.rows}; fragments "
            f"that differ: {', '.join(differ[:5])}",
        )


def _imbalance(stage: str, problem: str) -> StoreError:
    message = f"The books of stage {stage!r} do not balance: {problem}"
    fix = "Delete the folder of that stage's table under tables/, and run the recipe again"
    return StoreError(
        Detail(f"{message}. A manifest of the store was changed or damaged", stage, fix=fix)
    )
