"""The books: rows in = rows out + rows dropped by reason, stage by stage, checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow.compute as pc

from curation.engine.manifest import sum_counts
from curation.engine.store import DATASET
from curation.engine.table import Table
from curation.errors import StoreError
from curation.inspect.lineage import Lineage
from curation.media.encoders.params import EMBEDDINGS

ROLES = ("pool", "seed", "held_out")
NOT_CLAIMED = "not_claimed"
NO_PICTURE = ("skipped", "no_pixels")


@dataclass(frozen=True)
class Line:
    """One line of the books: a stage and a role (or `all`), in rows."""

    stage: str
    role: str
    rows_in: int
    rows_out: int
    dropped: Mapping[str, int]

    @property
    def rows_dropped(self) -> int:
        """Rows that end here."""
        return sum(self.dropped.values())


@dataclass(frozen=True)
class Counts:
    """What the dataset and the claims hold: rows, Σ weight, rows by role, claims, images claimed."""

    rows: int
    weight: int
    by_role: Mapping[str, int]
    claims: int
    claimed_images: int


def count(lineage: Lineage, total: int) -> Counts:
    """Count the dataset and its claims.

    Args:
        lineage: the tables.
        total: Σ final of the composition.

    Raises:
        StoreError: Σ final, Σ weight, rows and distinct claimed images do not agree.
    """
    dataset, claims = lineage[DATASET], lineage["claims"]
    weight, by_role = 0, dict.fromkeys(ROLES, 0)
    for fragment in dataset.fragments.values():
        rows = fragment.read(["role", "weight"])
        weight += pc.sum(rows.column("weight")).as_py() or 0
        for found in pc.value_counts(rows.column("role")).to_pylist():
            by_role[found["values"]] += found["counts"]
    # Claims on one image stand in the fragment of the one row that stands for it.
    images = sum(
        pc.count_distinct(f.read(["image_id"]).column("image_id")).as_py()
        for f in claims.fragments.values()
    )
    counts = Counts(dataset.rows, weight, by_role, claims.rows, images)
    if weight != total:
        raise _broken("assemble", f"Σ weight of the dataset is {weight}, Σ final is {total}")
    if counts.rows != images:
        raise _broken("assemble", f"{counts.rows} rows, but {images} distinct images are claimed")
    if sum(by_role.values()) != counts.rows:
        raise _broken("assemble", f"{counts.rows} rows, by role {by_role}")
    return counts


def balance(lineage: Lineage, counts: Counts) -> list[Line]:
    """Return every line of the books, in the order of the flow.

    Raises:
        StoreError: a line does not balance, or tables disagree; it names the stage.
    """
    names = ["pairs", "images", *(EMBEDDINGS.table(e) for e in lineage.embeddings), "eligible"]
    for name in names:
        _check_table(lineage[name], lineage["pairs"])
    lines = [line for line in _lines(lineage, counts) if line.rows_in or line.rows_dropped]
    for line in lines:
        negative = [r for r, rows in line.dropped.items() if rows < 0]
        if negative or line.rows_in != line.rows_out + line.rows_dropped:
            raise _broken(
                line.stage,
                f"{line.role}: {line.rows_in} rows in, {line.rows_out} out, dropped "
                f"{dict(line.dropped)}",
            )
    return lines


def _lines(lineage: Lineage, counts: Counts) -> Iterator[Line]:
    pairs = lineage["pairs"].manifest.counts
    images = lineage["images"].manifest.counts
    eligible = lineage["eligible"].manifest.counts
    roles = [r for r in ROLES if r in pairs]
    for role in roles:
        asked = sum(pairs[role].values())
        yield Line("ingest", role, asked, pairs[role].get("ok", 0), _fresh(pairs, {}, role, "ok"))
    for role in roles:
        fetched = images.get(role, {}).get("ok", 0)
        dropped = _fresh(images, pairs, role, "ok")
        yield Line("fetch", role, pairs[role].get("ok", 0), fetched, dropped)
    for encoder, table in lineage.embeddings.items():
        books = sum_counts([{"all": own} for own in table.manifest.counts.values()]).get("all", {})
        lost = {r: n for r, n in books.items() if r not in (*NO_PICTURE, "ok")}
        pictures = sum(images.get(role, {}).get("ok", 0) for role in roles)
        yield Line(f"embed {encoder}", "all", pictures, books.get("ok", 0), lost)
    for role in roles:
        fit = eligible.get(role, {}).get("eligible", 0)
        dropped = _fresh(eligible, images, role, "eligible")
        yield Line("select", role, images.get(role, {}).get("ok", 0), fit, dropped)
    for role in roles:
        fit, taken = eligible.get(role, {}).get("eligible", 0), counts.by_role[role]
        yield Line("retrieve", role, fit, taken, {NOT_CLAIMED: fit - taken} if fit - taken else {})


def _fresh(
    books: Mapping[str, Mapping[str, int]],
    earlier: Mapping[str, Mapping[str, int]],
    role: str,
    passed: str,
) -> dict[str, int]:
    """Return what a table drops beyond what the table before it had dropped already."""
    own, before = books.get(role, {}), earlier.get(role, {})
    reasons = sorted({*own, *before} - {passed, "ok"})
    fresh = {r: own.get(r, 0) - before.get(r, 0) for r in reasons}
    return {r: rows for r, rows in fresh.items() if rows}


def _check_table(table: Table, pairs: Table) -> None:
    """Check that a manifest agrees with its records, and its rows with those of `pairs`."""
    manifest = table.manifest
    booked = sum(sum(own.values()) for own in manifest.counts.values())
    if (
        manifest.counts != sum_counts(r.counts for r in manifest.fragments)
        or booked != manifest.rows
    ):
        raise _broken(
            manifest.stage,
            f"table {manifest.table!r} has {manifest.rows} rows in its fragments, its books "
            f"account for {booked}",
        )
    own = {r.name: r.rows for r in manifest.fragments}
    asked = {r.name: r.rows for r in pairs.manifest.fragments}
    if own != asked:
        differ = sorted(n for n in {*own, *asked} if own.get(n) != asked.get(n))
        raise _broken(
            manifest.stage,
            f"table {manifest.table!r} has {manifest.rows} rows, `pairs` has {pairs.rows}; "
            f"fragments that differ: {', '.join(differ[:5])}",
        )


def _broken(stage: str, what: str) -> StoreError:
    return StoreError(
        f"The books of stage {stage!r} do not balance: {what}. A manifest of the store was changed or "
        "damaged: delete the folder of that stage's table under tables/ and run the recipe again."
    )
