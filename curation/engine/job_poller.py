"""Looks at a Spark job while it runs: finished tasks, failed attempts, missing executors."""

from __future__ import annotations

import logging
import threading
from typing import Any

from curation.engine.executors import ExecutorWatch
from curation.engine.spark_progress import ShownProgress

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

logger = logging.getLogger(__name__)


class JobPoller:
    """Looks at the jobs of a group from a thread of its own, as a context manager.

    Args:
        context: of the session.
        group: of the jobs.
        tasks: number of tasks of the jobs.
        shown: shows how many tasks have ended.
        watch: says that executors are missing; None where there are none.
    """

    def __init__(
        self,
        context: Any,
        group: str,
        tasks: int,
        shown: ShownProgress,
        watch: ExecutorWatch | None = None,
    ) -> None:
        self._tracker = context.statusTracker()
        self._group, self._tasks, self._shown = group, tasks, shown
        self._watch, self._failed = watch, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def _poll(self) -> None:
        try:
            while not self._ended.wait(self._shown.poll_s):
                self._read_stages()
        except Exception as error:
            # The job itself tells what has happened to Spark.
            logger.debug("The job is no longer watched: %s", error)

    def _read_stages(self) -> None:
        infos = [
            self._tracker.getStageInfo(stage)
            for job in self._tracker.getJobIdsForGroup(self._group)
            for info in [self._tracker.getJobInfo(job)]
            for stage in (info.stageIds if info else ())
        ]
        stages = [info for info in infos if info]
        failed = sum(info.numFailedTasks for info in stages)
        if failed > self._failed:
            logger.warning("%s: %d attempts at tasks have failed.", self._shown.label, failed)
            self._failed = failed
        if self._watch:
            self._watch.check()
        self._shown.set_done(sum(info.numCompletedTasks for info in stages), self._tasks)

    def __enter__(self) -> JobPoller:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
