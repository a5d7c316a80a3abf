"""The log file of a run, from its first stage to the end of the command."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from curation.flow import Step
from curation.log_file import log_file
from curation.runner.observer import RunObserver
from curation.store.log_place import log_path, tidy_state_folder
from curation.store.run_record import RunRecord
from curation.store.store import Store
from curation.version import __version__

logger = logging.getLogger(__name__)


class RunLogFile(RunObserver):
    """Writes the log file of a run; as a context, until the command has done the rest, as the report.

    Args:
        store: where the run works.
        notify: called with the path of the file once it is there.

    Attributes:
        path: of the file; None before the run has begun, and if the file cannot be written.
        run: name of the run; None before it has begun.
    """

    def __init__(self, store: Store, notify: Callable[[str], object]) -> None:
        self.path: Path | None = None
        self.run: str | None = None
        self._store, self._notify, self._stack = store, notify, ExitStack()

    def run_started(self, run: RunRecord, steps: Sequence[Step]) -> None:
        """See `RunObserver.run_started`."""
        self.run = run.run
        path = log_path(self._store, run.run)
        try:
            self._stack.enter_context(log_file(path))
        except OSError as error:
            logger.warning("The run has no log file, because %s cannot be written: %s", path, error)
            return
        self.path = path
        self._notify(str(path))
        logger.info(
            "curation %s, Python %s: run %s of %s into %s",
            *(__version__, platform.python_version(), run.run, run.recipe, self._store.uri),
        )
        if not self._store.storage.is_local:
            try:
                tidy_state_folder()
            except OSError as error:
                logger.warning("Older log files beside %s cannot be removed: %s", path, error)

    def __enter__(self) -> RunLogFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)
