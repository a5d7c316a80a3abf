"""Runs several schedules, and counts what happened in them."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterable

from .world import simulate


def run_schedules(seeds: Iterable[int]) -> tuple[Counter[str], list[str]]:
    """Run schedules; return what happened in all of them, and a text for each that failed."""
    happened: Counter[str] = Counter()
    problems = []
    for seed in seeds:
        try:
            world = simulate(seed)
        except Exception:
            problems.append(f"seed {seed}: {traceback.format_exc()}")
            continue
        happened["schedules"] += 1
        happened["tables read meanwhile"] += world.readings
        happened.update(f"process {this.outcome or 'killed'}" for this in world.attempts)
        happened.update(f"fault {fault}" for fault in world.faults.happened)
    return happened, problems
