"""Racing runs of a small plan on a simulated store, with faults: no schedule breaks an invariant.

`python -m tests.simulation` runs more of them, as `make nightly` does.
"""

from __future__ import annotations

import pytest

from .schedules import run_schedules
from .world import simulate

SCHEDULES = 500
PARTS = 10


@pytest.mark.parametrize("part", range(PARTS))
def test_no_schedule_breaks_an_invariant(part: int) -> None:
    seeds = range(part, SCHEDULES, PARTS)
    happened, problems = run_schedules(seeds)
    assert not problems, problems[0]
    assert happened["schedules"] == len(seeds)
    # Otherwise the schedules would prove little.
    assert happened["process killed"] > 10
    assert happened["process failed"] > 10
    assert happened["tables read meanwhile"] > 10


def test_a_seed_gives_one_schedule() -> None:
    worlds = [simulate(7), simulate(7)]
    entries = [[path for path, _ in world.server.entries] for world in worlds]
    assert entries[0] == entries[1]
    assert worlds[0].faults.happened == worlds[1].faults.happened
    assert worlds[0].scheduler.now == worlds[1].scheduler.now
    assert [a.outcome for a in worlds[0].attempts] == [a.outcome for a in worlds[1].attempts]
