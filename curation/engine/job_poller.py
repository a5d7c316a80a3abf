"""Looks at a Spark job while it runs: progress, attempts that failed, executors that are missing."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from curation.engine.executors import ExecutorWatch
from curation.engine.parallel import Note
from curation.errors import CurationError
from curation.progress import ProgressBar

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

logger = logging.getLogger(__name__)

NOTE_SECONDS = 2.0
"""Seconds between two notes under a progress bar."""
LOG_SECONDS = 60.0
"""Seconds between two notes in the log, where no progress bar is shown."""
_POLL_SECONDS = {True: 0.2, False: 1.0}
"""Seconds between two looks, where a progress bar is shown and where none is."""


class JobPoller:
    """Looks at the jobs of a group from a thread of its own, as a context manager.

    Args:
        tracker: of the session.
        group: of the jobs.
        progress: shows how many tasks have ended.
        note: describes the progress; called from time to time.
        watch: says that executors are missing; None where there are none.
    """

    def __init__(
        self,
        tracker: Any,
        group: str,
        progress: ProgressBar,
        note: Note | None,
        watch: ExecutorWatch | None = None,
    ) -> None:
        self._tracker = tracker
        self._group, self._progress, self._note = group, progress, note
        self._watch, self._failed = watch, 0
        self._last_note = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def _poll(self) -> None:
        try:
            while not self._ended.wait(_POLL_SECONDS[self._progress.shown]):
                self._look()
        except Exception as error:
            # The job itself tells what has happened to Spark.
            logger.debug("The job is no longer watched: %s", error)

    def _look(self) -> None:
        infos = [
            self._tracker.getStageInfo(stage)
            for job in self._tracker.getJobIdsForGroup(self._group)
            for info in [self._tracker.getJobInfo(job)]
            for stage in (info.stageIds if info else ())
        ]
        stages = [info for info in infos if info]
        self._progress.set_done(sum(info.numCompletedTasks for info in stages))
        failed = sum(info.numFailedTasks for info in stages)
        if failed > self._failed:
            logger.warning("%s: %d attempts at tasks have failed.", self._progress.label, failed)
            self._failed = failed
        if self._watch:
            self._watch.check()
        self._show_note()

    def _show_note(self) -> None:
        pause = NOTE_SECONDS if self._progress.shown else LOG_SECONDS
        if self._note is None or time.monotonic() - self._last_note < pause:
            return
        self._last_note = time.monotonic()
        try:
            text = self._note()
        except (OSError, CurationError) as error:
            # A note is not worth stopping the work for.
            logger.debug("The progress note cannot be made: %s", error)
            return
        if self._progress.shown:
            self._progress.set_note(text)
        else:
            logger.info("%s", text)

    def __enter__(self) -> JobPoller:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
