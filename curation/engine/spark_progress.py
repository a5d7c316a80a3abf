"""The progress of a Spark job while it runs: a bar or log lines, and what others may watch."""

from __future__ import annotations

import logging
import time

from curation.activity import Activity, WorkCounts
from curation.engine.parallel import ProgressCounter
from curation.errors import CurationError
from curation.progress import ProgressBar

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

logger = logging.getLogger(__name__)

POLL_SECONDS, QUIET_POLL_SECONDS = 0.2, 2.0
"""Seconds between two looks at the finished tasks: with a progress bar, and without one."""
COUNT_SECONDS = 2.0
"""Seconds between two counts under a progress bar."""
QUIET_COUNT_SECONDS = 5.0
"""The same without a progress bar: only `curation status` reads these counts."""
LOG_SECONDS = 60.0
"""Seconds between two lines in the log, where no progress bar is shown."""


class ShownProgress:
    """Where the progress of some work is shown: a progress bar, or else the log; and an activity."""

    def __init__(
        self, bar: ProgressBar, activity: Activity, counter: ProgressCounter | None
    ) -> None:
        self.label = bar.label
        self._bar, self._activity, self._counter = bar, activity, counter
        self.poll_s = POLL_SECONDS if bar.shown else QUIET_POLL_SECONDS
        self._count_s = COUNT_SECONDS if bar.shown else QUIET_COUNT_SECONDS
        self._last_count = self._last_log = time.monotonic()
        if counter is not None:
            self._show_counts(counter)

    def set_done(self, done: int, total: int) -> None:
        """Show the number of finished tasks, and from time to time the counts."""
        if self._counter is None:
            self._bar.set_done(done)
            self._activity.set_counts(WorkCounts(done, total))
        elif time.monotonic() - self._last_count >= self._count_s:
            self._last_count = time.monotonic()
            self._show_counts(self._counter)

    def _show_counts(self, counter: ProgressCounter) -> None:
        try:
            counts = counter.counts()
        except (OSError, CurationError) as error:
            # No error of counting may stop the work.
            logger.debug("The progress cannot be counted: %s", error)
            return
        self._bar.set_counts(counts)
        self._activity.set_counts(counts)
        text = counter.describe(counts)
        if text and self._bar.shown:
            self._bar.set_note(text)
        elif text and time.monotonic() - self._last_log >= LOG_SECONDS:
            self._last_log = time.monotonic()
            logger.info("%s", text)
