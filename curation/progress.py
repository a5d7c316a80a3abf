"""Progress bars of long work; nothing is shown where standard error is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

from rich import progress as bars
from rich.console import Console, RenderableType
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from curation.activity import WorkCounts
from curation.streams import CleanStream
from curation.terminal import one_line

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def _stderr() -> Any:
    """Return standard error without what escapes the signs that move a bar."""
    stream: Any = sys.stderr
    while (inner := getattr(stream, "rich_proxied_file", None)) is not None:
        stream = inner
    return stream


@contextmanager
def _above(console: Console) -> Iterator[None]:
    """Have what is written within a context stand above what a console shows, clean as before.

    rich would put its own stream around those that clean, and they would escape the bar itself.
    """
    with ExitStack() as streams:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, CleanStream) and stream.isatty():
                inner = stream.rich_proxied_file
                stream.rich_proxied_file = FileProxy(console, inner)  # type: ignore[assignment]
                streams.callback(setattr, stream, "rich_proxied_file", inner)
                streams.callback(stream.flush)
        yield


class _BarWithNote(bars.Progress):
    """A bar with one line of text under it."""

    note = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bar, and the note if there is one."""
        yield self.make_tasks_table(self.tasks)
        if self.note:
            yield Text(self.note, style="dim")


class _RateColumn(bars.ProgressColumn):
    """Finished items a second."""

    def render(self, task: bars.Task) -> Text:
        """Return the rate; nothing before it is known."""
        if not task.finished_speed and not task.speed:
            return Text("")
        speed = task.finished_speed or task.speed or 0.0
        digits = 0 if speed >= 10 else 1
        return Text(f"{speed:,.{digits}f} {task.fields['unit']}/s", style="dim")


class ProgressBar:
    """A bar on standard error that counts the finished items of some work, with its rate and time left.

    Args:
        label: shown before the bar.
        total: number of items.

    Attributes:
        label: as given.
        shown: whether standard error is a terminal.
    """

    def __init__(self, label: str, total: int) -> None:
        self.label, self.shown = label, sys.stderr.isatty()
        self._total = total
        self._console, self._streams = Console(file=_stderr()), ExitStack()
        is_clean = isinstance(sys.stderr, CleanStream)
        self._bar = _BarWithNote(
            bars.TextColumn("{task.description:>24}", markup=False),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[unit]}", markup=False),
            _RateColumn(),
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self.shown,
            redirect_stdout=not is_clean,
            redirect_stderr=not is_clean,
        )
        self._task = self._bar.add_task(one_line(label), total=total, unit="tasks")

    def set_done(self, done: int) -> None:
        """Show that `done` items are finished."""
        self._bar.update(self._task, completed=min(done, self._total))

    def set_counts(self, counts: WorkCounts) -> None:
        """Show how far the work is, in its own unit."""
        done = min(counts.done, counts.total)
        self._bar.update(self._task, completed=done, total=counts.total, unit=counts.unit)

    def set_note(self, text: str) -> None:
        """Show one line of text under the bar."""
        self._bar.note = one_line(text)

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        if self.shown:
            self._streams.enter_context(_above(self._console))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._streams.close()
        self._bar.stop()


@contextmanager
def shown_wait(text: str) -> Iterator[None]:
    """Show within a context what is waited for, where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    console, is_clean = Console(file=_stderr()), isinstance(sys.stderr, CleanStream)
    with (
        Live(
            Spinner("dots", Text(one_line(text))),
            console=console,
            transient=True,
            redirect_stdout=not is_clean,
            redirect_stderr=not is_clean,
        ),
        _above(console),
    ):
        yield
