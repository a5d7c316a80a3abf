"""Progress bars on long work, where a person watches; nothing where none does."""

from __future__ import annotations

import sys
from types import TracebackType

from rich import progress as bars
from rich.console import Console


class Progress:
    """A bar on standard error that counts items of one piece of work."""

    def __init__(self, what: str, total: int) -> None:
        self.shown = sys.stderr.isatty()
        self._total = total
        self._bar = bars.Progress(
            bars.TextColumn("{task.description:>24}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
            disable=not self.shown,
        )
        self._task = self._bar.add_task(what, total=total, note="")

    def reached(self, done: int) -> None:
        """Show that `done` items are finished."""
        self._bar.update(self._task, completed=min(done, self._total))

    def note(self, text: str) -> None:
        """Show how the work goes beside the bar."""
        self._bar.update(self._task, note=text)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
