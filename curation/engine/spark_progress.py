"""The progress of a Spark job while it runs: a bar or log lines, and what others may watch."""

from __future__ import annotations

import logging
import time

from curation.activity import Activity, Counts
from curation.engine.parallel import Note
from curation.errors import CurationError
from curation.progress import ProgressBar

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

logger = logging.getLogger(__name__)

POLL_SECONDS, QUIET_POLL_SECONDS = 0.2, 2.0
"""Seconds between two looks at the finished tasks: with a progress bar, and without one."""
NOTE_SECONDS = 2.0
"""Seconds between two counts of a note under a progress bar."""
QUIET_NOTE_SECONDS = 5.0
"""The same where no progress bar is shown: only those who watch the run read them."""
LOG_SECONDS = 60.0
"""Seconds between two notes in the log, where no progress bar is shown."""


class ShownProgress:
    """Where the progress of some work is shown: a progress bar, or else the log; and an activity."""

    def __init__(self, bar: ProgressBar, activity: Activity, note: Note | None) -> None:
        self.label = bar.label
        self._bar, self._activity, self._note = bar, activity, note
        self.poll_s = POLL_SECONDS if bar.shown else QUIET_POLL_SECONDS
        self._note_s = NOTE_SECONDS if bar.shown else QUIET_NOTE_SECONDS
        self._last_note = self._last_log = time.monotonic()
        if note is not None:
            self._show_note(note)

    def set_done(self, done: int, total: int) -> None:
        """Show the number of finished tasks, and from time to time the note."""
        if self._note is None:
            self._bar.set_done(done)
            self._activity.set_counts(Counts(done, total))
        elif time.monotonic() - self._last_note >= self._note_s:
            self._last_note = time.monotonic()
            self._show_note(self._note)

    def _show_note(self, note: Note) -> None:
        try:
            counts = note.counts()
        except (OSError, CurationError) as error:
            # A note is not worth stopping the work for.
            logger.debug("The progress note cannot be made: %s", error)
            return
        self._bar.set_counts(counts)
        self._activity.set_counts(counts)
        text = note.describe(counts)
        if text and self._bar.shown:
            self._bar.set_note(text)
        elif text and time.monotonic() - self._last_log >= LOG_SECONDS:
            self._last_log = time.monotonic()
            logger.info("%s", text)
