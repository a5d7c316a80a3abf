"""Rows that were dropped: how many by reason, with a few examples of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from curation.algorithms.arrays.seeded_order import seeded_order
from curation.engine.table import Table
from curation.inspect.report.books import NOT_CLAIMED, Line
from curation.inspect.report.pictures import Album, Ref

EXAMPLES = 6


@dataclass(frozen=True)
class Reason:
    """A reason of one stage, with rows by role; `share` is of the stage's most frequent one."""

    stage: str
    name: str
    by_role: dict[str, int]
    share: float
    examples: list[Ref] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows of all roles."""
        return sum(self.by_role.values())


def reasons_of(
    lines: Iterable[Line], eligible: Table, album: Album, seed: int
) -> dict[str, list[Reason]]:
    """Return the reasons by stage, the most frequent first, each with examples."""
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for line in lines:
        # The vectors that embed could not make are dropped by select, and counted there.
        if not line.stage.startswith("embed"):
            for reason, dropped in line.dropped.items():
                rows.setdefault((line.stage, reason), {})[line.role] = dropped
    names = {reason for _, reason in rows if reason != NOT_CLAIMED}
    found = examples(eligible, names, album, seed)
    by_stage: dict[str, list[Reason]] = {}
    for (stage, reason), by_role in rows.items():
        most = max(sum(r.values()) for (s, _), r in rows.items() if s == stage)
        share = sum(by_role.values()) / most
        own = Reason(stage, reason, by_role, share, found.get(reason, []))
        by_stage.setdefault(stage, []).append(own)
    return {s: sorted(own, key=lambda r: (-r.rows, r.name)) for s, own in by_stage.items()}


def examples(
    eligible: Table, names: Iterable[str], album: Album, seed: int
) -> dict[str, list[Ref]]:
    """Return a few rows for each reason, from the first fragments whose books have it."""
    wanted = dict.fromkeys(sorted(names), EXAMPLES)
    found: dict[str, list[Ref]] = {name: [] for name in wanted}
    for fragment in eligible.fragments.values():
        here = {r for own in fragment.record.counts.values() for r in own if wanted.get(r)}
        if not here:
            continue
        table = fragment.read(["pair_id", "reason"])
        reasons = table.column("reason").to_numpy()
        pairs = table.column("pair_id").to_numpy()
        for reason in sorted(here):
            rows = np.flatnonzero(reasons == reason)
            order = seeded_order(pairs[rows].astype("S32"), seed, "report", reason)
            chosen = np.sort(rows[order[: wanted[reason]]])
            found[reason] += [album.ask(fragment.name, pairs[row], int(row)) for row in chosen]
            wanted[reason] -= len(chosen)
    return found
