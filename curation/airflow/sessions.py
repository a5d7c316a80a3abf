"""Which stages of a plan share a task, and so a Spark session."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

from curation.engine.cluster import Cluster
from curation.flow import Step

Sessions = Literal["resources", "steps", "run"]
"""Which stages share a task, and so a Spark session: neighbours that want the same resources, none, or
all of a run."""


def share_sessions(
    steps: Sequence[Step], cluster: Cluster, sessions: Sessions = "resources"
) -> list[list[Step]]:
    """Return the steps of each task, in order.

    Neighbours share a task if they want the same of the cluster: GPUs or none. What waits for the web
    is apart from what follows.
    """
    if sessions == "steps":
        return [[step] for step in steps]
    if sessions == "run":
        return [list(steps)]
    last_on_web = max((n for n, step in enumerate(steps) if step.stage.waits), default=-1)

    def resources(numbered: tuple[int, Step]) -> tuple[bool, bool]:
        number, step = numbered
        return number <= last_on_web, cluster.gpus and step.stage.gpu

    return [[step for _, step in group] for _, group in groupby(enumerate(steps), resources)]
