"""Dropped rows: how many for each reason, with a few examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from curation.algorithms.arrays.seeded_order import seeded_order
from curation.inspect.lineage import Lineage
from curation.inspect.report.album import Album, ImageRef
from curation.inspect.report.row_counts import NOT_CLAIMED, StageCounts

EXAMPLES = 6
STATUS_AFTER = {"ingest": "skipped", "fetch": "failed", "select": "ok"}
"""The status in `images` of the rows that a stage drops."""


@dataclass(frozen=True)
class DropReason:
    """A reason of one stage, with its rows by role; `share` is relative to its most common reason."""

    stage: str
    name: str
    by_role: dict[str, int]
    share: float
    examples: list[ImageRef] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows of all roles."""
        return sum(self.by_role.values())


def drop_reasons(
    lines: Iterable[StageCounts], lineage: Lineage, album: Album, seed: int
) -> dict[str, list[DropReason]]:
    """Return the reasons by stage, the most common first, each with examples.

    Args:
        lines: row counts of the stages.
        lineage: the tables of the run.
        album: gets the examples to load.
        seed: of the choice of examples.
    """
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for line in lines:
        # Images without a vector are dropped by select, and counted there.
        if not line.stage.startswith("embed"):
            for reason, dropped in line.dropped.items():
                rows.setdefault((line.stage, reason), {})[line.role] = dropped
    dropped_by = {(stage, reason) for stage, reason in rows if reason != NOT_CLAIMED}
    examples = choose_examples(lineage, dropped_by, album, seed)
    by_stage: dict[str, list[DropReason]] = {}
    for (stage, reason), by_role in rows.items():
        largest = max(sum(r.values()) for (s, _), r in rows.items() if s == stage)
        share = sum(by_role.values()) / largest
        drop = DropReason(stage, reason, by_role, share, examples.get((stage, reason), []))
        by_stage.setdefault(stage, []).append(drop)
    return {s: sorted(drops, key=lambda d: (-d.rows, d.name)) for s, drops in by_stage.items()}


def choose_examples(
    lineage: Lineage, reasons: Iterable[tuple[str, str]], album: Album, seed: int
) -> dict[tuple[str, str], list[ImageRef]]:
    """Return up to EXAMPLES rows for each stage and reason, from the first fragments that have any.

    Stages share reasons: `ingest` drops rows without an image, and `fetch` does so too.
    """
    wanted = dict.fromkeys(sorted(reasons), EXAMPLES)
    examples: dict[tuple[str, str], list[ImageRef]] = {key: [] for key in wanted}
    images = lineage["images"].fragments
    for name, fragment in lineage["eligible"].fragments.items():
        outcomes = {name for counts in fragment.record.counts.values() for name in counts}
        present = [key for key, rows in wanted.items() if rows and key[1] in outcomes]
        if not present:
            continue
        table = fragment.read(["pair_id", "reason"])
        row_reasons = table.column("reason").to_numpy()
        pairs = table.column("pair_id").to_numpy()
        statuses = images[name].read(["status"]).column("status").to_numpy()
        for key in present:
            stage, reason = key
            rows = np.flatnonzero((row_reasons == reason) & (statuses == STATUS_AFTER[stage]))
            order = seeded_order(pairs[rows].astype("S32"), seed, "report", reason)
            chosen = np.sort(rows[order[: wanted[key]]])
            examples[key] += [album.add(name, pairs[row], int(row)) for row in chosen]
            wanted[key] -= len(chosen)
    return examples
