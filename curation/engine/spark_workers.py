"""Work spread over Spark's tasks."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from curation.engine.parallel import R, ShuffleJob, T
from curation.engine.progress import ProgressBar
from curation.engine.spark import Cluster, gpu_profile, open_session
from curation.errors import CurationError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


logger = logging.getLogger(__name__)


class _ErrorAsResult:
    """A function that returns a CurationError instead of raising it.

    Spark would wrap an exception in pages of JVM trace, with the message for people lost in it.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, item: Any) -> Any:
        try:
            return self.function(item)
        except CurationError as error:
            return error
        finally:
            _spare_the_collector()


_seen_modules = 0


def _spare_the_collector() -> None:
    """Take what was imported out of the garbage collector's sight.

    Spark's daemon collects garbage after every task, which with torch and its kin imported takes
    longer than a small task itself.
    """
    global _seen_modules  # noqa: PLW0603
    if len(sys.modules) > _seen_modules:
        gc.collect()
        gc.freeze()
        _seen_modules = len(sys.modules)


class _SendItem:
    """Sends an item; where that fails every part gets the error, so that none goes on without it."""

    def __init__(self, job: ShuffleJob) -> None:
        self._send, self._parts = job.send, job.parts

    def __call__(self, item: Any) -> Iterator[tuple[int, Any]]:
        try:
            yield from self._send(item)
        except CurationError as error:
            for part in self._parts:
                yield part, error


class _ReceivePart:
    """Receives what a part of a shuffle got, or returns the error that a sender met."""

    def __init__(self, job: ShuffleJob) -> None:
        self._receive, self._parts = job.receive, job.parts

    def __call__(self, place: int, rows: Iterable[tuple[int, Any]]) -> Iterator[Any]:
        sent = [own for _, own in rows]
        errors = [own for own in sent if isinstance(own, CurationError)]
        if errors:
            yield errors[0]
        else:
            yield _ErrorAsResult(lambda part: self._receive(part, sent))(self._parts[place])


class SparkWorkers:
    """Each item is a task of a Spark job. The session starts with the first work, if there is any."""

    def __init__(self, session: Callable[[], SparkSession]) -> None:
        self._open_session = session
        self._session: SparkSession | None = None

    @property
    def _spark(self) -> SparkSession:
        if self._session is None:
            self._session = self._open_session()
        return self._session

    def map(
        self,
        label: str,
        function: Callable[[T], R],
        items: Sequence[T],
        note: Callable[[], str] | None = None,
        gpu: bool = False,
    ) -> list[R]:
        """Return `[function(i) for i in items]`, computed by Spark tasks.

        Raises:
            CurationError: the first one that a task met.
        """
        if not items:
            return []
        rows = self._spark.sparkContext.parallelize(items, len(items))
        return self._collected(rows.map(_ErrorAsResult(function)), label, len(items), note, gpu)

    def exchange(self, job: ShuffleJob) -> list[Any]:
        """Return what each part makes of all that it is sent, by one shuffle of Spark's.

        Raises:
            CurationError: the first one that a task met.
        """
        place = {part: number for number, part in enumerate(job.parts)}
        items = self._spark.sparkContext.parallelize(job.items, max(1, len(job.items)))
        shuffled = items.flatMap(_SendItem(job)).partitionBy(len(place), place.__getitem__)
        received = shuffled.mapPartitionsWithIndex(_ReceivePart(job))
        return self._collected(received, job.label, job.task_count, None, job.gpu)

    def _collected(
        self, rows: Any, label: str, tasks: int, note: Callable[[], str] | None, gpu: bool
    ) -> list[Any]:
        """Run a job and return its results; with `gpu` its tasks ask for a GPU each."""
        context = self._spark.sparkContext
        profile = gpu_profile(self._spark) if gpu else None
        if profile is not None:
            # Of this job alone: other stages go on using every core of the same executors.
            rows = rows.withResources(profile)
        group = f"curation-{label}-{id(rows)}"
        context.setJobGroup(group, label)
        with ProgressBar(label, tasks) as progress, _ProgressPoller(context, group, progress, note):
            results = rows.collect()
        return _unless_failed(results)

    def stop(self) -> None:
        """Stop the session, if one was started."""
        if self._session is not None:
            self._session.stop()


@contextmanager
def spark_workers(
    name: str, cluster: Cluster, gpu: bool = False, files: Sequence[str] = ()
) -> Iterator[SparkWorkers]:
    """Give workers on a cluster, and stop their session afterwards.

    Args:
        name: shown by Spark.
        cluster: where they run.
        gpu: whether executors need a GPU.
        files: Python files that workers import.
    """

    def session() -> SparkSession:
        opened = open_session(name, cluster, int(gpu))
        for file in files:
            opened.sparkContext.addPyFile(file)
        return opened

    workers = SparkWorkers(session)
    try:
        yield workers
    finally:
        workers.stop()


def _unless_failed(found: list[R]) -> list[R]:
    for result in found:
        if isinstance(result, CurationError):
            raise result
    return found


NOTE_SECONDS = 2.0
"""Seconds between two notes where a person watches; without one they go into the log, more rarely."""


LOG_SECONDS = 60.0


class _ProgressPoller:
    """Tells a progress bar how many tasks of a job group are done, from a thread beside the job."""

    def __init__(
        self, context: Any, group: str, progress: ProgressBar, note: Callable[[], str] | None
    ) -> None:
        self._tracker = context.statusTracker()
        self._group, self._progress, self._note = group, progress, note
        self._noted = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.wait(0.2):
            done = 0
            for job in self._tracker.getJobIdsForGroup(self._group):
                info = self._tracker.getJobInfo(job)
                for stage in info.stageIds if info else ():
                    stage_info = self._tracker.getStageInfo(stage)
                    done += stage_info.numCompletedTasks if stage_info else 0
            self._progress.set_done(done)
            self._tell()

    def _tell(self) -> None:
        pause = NOTE_SECONDS if self._progress.shown else LOG_SECONDS
        if self._note is None or time.monotonic() - self._noted < pause:
            return
        self._noted = time.monotonic()
        try:
            text = self._note()
        except OSError as error:
            # The work goes on without its notes.
            logger.debug("no note: %s", error)
            return
        if self._progress.shown:
            self._progress.set_note(text)
        else:
            logger.info("%s", text)

    def __enter__(self) -> None:
        if self._progress.shown or self._note is not None:
            self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
