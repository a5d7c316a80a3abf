"""Workers on Spark: each item of the work is a Spark task."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from curation.activity import Activity
from curation.engine.cluster import Cluster, is_local, local_slots, starts_spark_here
from curation.engine.driver_first import DriverFirst
from curation.engine.executors import ExecutorWatch
from curation.engine.freed_memory import return_freed_memory
from curation.engine.job_poller import JobPoller
from curation.engine.parallel import Parallel, ProgressCounter, R, ShuffleJob, T
from curation.engine.row_counts import kept_counts
from curation.engine.shipped_files import Shipment, use_copies
from curation.engine.spark import cores_of_gpu, gpu_profile, open_context
from curation.engine.spark_failures import explained
from curation.engine.spark_progress import ShownProgress
from curation.engine.spark_summaries import SendSummary, SummaryAdder
from curation.errors import CurationError
from curation.progress import ProgressBar, shown_wait
from curation.streams import clean_python_streams
from curation.terminal import visible

if TYPE_CHECKING:
    from pyspark import SparkContext

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


STARTING = "Starting Spark"
"""What a run does before its first task."""


class _ErrorAsResult:
    """A function that returns a CurationError instead of raising it; runs on a worker.

    Spark would wrap the exception in pages of JVM trace, which hide its message.
    """

    def __init__(self, function: Callable[[Any], Any], copies: Mapping[str, str]) -> None:
        self.function, self._copies = function, copies

    def __call__(self, item: Any) -> Any:
        clean_python_streams()
        use_copies(self._copies)
        gc.set_threshold(_YOUNG_OBJECTS)
        try:
            return self.function(item)
        except CurationError as error:
            return error
        except MemoryError:
            raise _out_of_memory() from None
        except Exception as error:
            raise _without_secrets(error) from None
        finally:
            _freeze_imported_objects()
            return_freed_memory()


def _out_of_memory() -> MemoryError:
    """Return an error that names the task as Spark does, which leaves that out of Python's errors."""
    from pyspark import TaskContext

    context = TaskContext.get()
    assert context is not None
    task, stage, attempt = context.partitionId(), context.stageId(), context.attemptNumber()
    return MemoryError(f"Task {task} in stage {stage} failed {attempt + 1} times")


def _without_secrets(error: Exception) -> Exception:
    """Return an error whose trace has no secrets; if it had some, only its cleaned trace is kept.

    Executors write the trace into logs of their own, which nothing cleans.
    """
    trace = "".join(traceback.format_exception(error))
    clean = visible(trace)
    return error if clean == trace else RuntimeError(clean)


_YOUNG_OBJECTS = 5_000
"""Objects after which a worker looks for garbage. The requests of a fetch that run at once consist of
more than Python's 700, so that it would look again and again at what is in use."""
_frozen_modules = 0


def _freeze_imported_objects() -> None:
    """Exclude the objects of imported modules from garbage collection.

    PySpark's daemon collects garbage after every task. With torch imported, that takes longer than a
    small task.
    """
    global _frozen_modules  # noqa: PLW0603
    if len(sys.modules) > _frozen_modules:
        gc.collect()
        gc.freeze()
        _frozen_modules = len(sys.modules)


class _SendItem:
    """Sends the messages of an item; runs on a worker.

    If that fails, every part gets the error, so that none is computed from incomplete messages.
    """

    def __init__(self, job: ShuffleJob, copies: Mapping[str, str]) -> None:
        self._send, self._parts, self._copies = job.send, job.parts, copies

    def __call__(self, item: Any) -> Iterator[tuple[int, Any]]:
        clean_python_streams()
        use_copies(self._copies)
        try:
            yield from self._send(item)
        except CurationError as error:
            for part in self._parts:
                yield part, error
        except Exception as error:
            raise _without_secrets(error) from None
        finally:
            return_freed_memory()


class _ReceivePart:
    """Computes a part of a shuffle, or returns the error that a sender met; runs on a worker."""

    def __init__(self, job: ShuffleJob, copies: Mapping[str, str]) -> None:
        self._receive, self._parts, self._copies = job.receive, job.parts, copies

    def __call__(self, partition: int, rows: Iterable[tuple[int, Any]]) -> Iterator[Any]:
        messages = [message for _, message in rows]
        errors = [message for message in messages if isinstance(message, CurationError)]
        if errors:
            yield errors[0]
        else:
            receive = _ErrorAsResult(lambda part: self._receive(part, messages), self._copies)
            yield receive(self._parts[partition])


class SparkWorkers:
    """Workers on Spark. It is started with the first work.

    Args:
        context: opens the Spark context.
        inputs: input files that tasks read, as the recipe has them.
        activity: is told how far each map and shuffle is.
    """

    def __init__(
        self,
        context: Callable[[], SparkContext],
        inputs: Sequence[str] = (),
        activity: Activity | None = None,
    ) -> None:
        self._open_context, self._inputs = context, inputs
        self._activity = activity or Activity()
        self._context: SparkContext | None = None
        self._shipment: Shipment | None = None
        self._thread = ThreadPoolExecutor(1)

    @property
    def _spark(self) -> SparkContext:
        if self._context is None:
            self._activity.begin_part(STARTING, 1)
            with shown_wait(f"{STARTING} …"):
                self._context = self._open_context()
            self._activity.end_part()
            # Workers on this machine see the same files as this process.
            if not is_local(self._context.master):
                self._shipment = Shipment(self._context, self._inputs)
        return self._context

    @property
    def started(self) -> bool:
        """Whether Spark has been started."""
        return self._context is not None

    @property
    def _copies(self) -> Mapping[str, str]:
        """The names of the copies of input files that workers have, by path."""
        return self._shipment.names if self._shipment else {}

    @property
    def slots(self) -> int:
        """Number of tasks that run at the same time, as far as Spark knows."""
        with self._explained():
            return int(self._spark.defaultParallelism)

    @property
    def gpu_slots(self) -> int:
        """Number of tasks with a GPU each that run at the same time, as far as Spark knows."""
        with self._explained():
            return max(1, self.slots // (cores_of_gpu(self._spark) or 1))

    def _explained(self) -> AbstractContextManager[None]:
        """Any call may meet a Spark that has ended since."""
        return explained(lambda: "local" if self._context is None else str(self._context.master))

    def map(
        self,
        label: str,
        function: Callable[[T], R],
        items: Sequence[T],
        counter: ProgressCounter | None = None,
        gpu: bool = False,
        isolated: bool = False,
    ) -> list[R]:
        """Return `[function(item) for item in items]`. See `Parallel.map`.

        Raises:
            CurationError: the first one that a task raised, after all tasks have ended.
            StoreError: a disk is full.
            WorkerError: the worker of a task ended again and again.
        """
        if not items:
            return []
        with self._explained():
            context = self._spark
            call: Callable[[Any], Any] = _ErrorAsResult(function, self._copies)
            if counter is not None:
                adder: Any = SummaryAdder(counter)
                call = SendSummary(call, counter.summarise, context.accumulator(None, adder))
            rows = context.parallelize(items, len(items)).map(call)
            return self._collected(rows, label, len(items), counter, gpu)

    def exchange(self, job: ShuffleJob) -> list[Any]:
        """Run one Spark shuffle and return the result of each part. See `Parallel.exchange`.

        Raises:
            CurationError: the first one that a task raised, after all tasks have ended.
        """
        results = self._shuffled(job)
        # Py4J's objects refer to themselves. As long as they are there, Java keeps the shuffle's files.
        gc.collect()
        return results

    def _shuffled(self, job: ShuffleJob) -> list[Any]:
        partition_of = {part: number for number, part in enumerate(job.parts)}
        with self._explained():
            items = self._spark.parallelize(job.items, max(1, len(job.items)))
            sent = items.flatMap(_SendItem(job, self._copies))
            shuffled = sent.partitionBy(len(partition_of), partition_of.__getitem__)
            received = shuffled.mapPartitionsWithIndex(_ReceivePart(job, self._copies))
            return self._collected(received, job.label, job.task_count, None, job.gpu)

    def _collected(
        self, rows: Any, label: str, tasks: int, counter: ProgressCounter | None, gpu: bool
    ) -> list[Any]:
        """Run a Spark job and return its results; with `gpu` each of its tasks requests a GPU."""
        context = self._spark
        profile = gpu_profile(context) if gpu else None
        if profile is not None:
            # Only for this job: other stages still use every core of the same executors.
            rows = rows.withResources(profile)
        group = f"curation-{label}-{id(rows)}"
        watch = None if is_local(context.master) else ExecutorWatch(context)
        self._activity.begin_part(label, tasks)
        with ProgressBar(label, tasks) as bar:
            shown = ShownProgress(bar, self._activity, counter)
            with JobPoller(context, group, tasks, shown, watch):
                results = self._job_result(rows, group, label)
        self._activity.end_part()
        return _raise_first_error(results)

    def _job_result(self, rows: Any, group: str, label: str) -> list[Any]:
        """Return the result of a Spark job; cancel the job where a signal ends the wait for it.

        Another thread waits for Java. If the main thread did, what follows a signal would wait until
        the job has ended: a thread has one connection, on which Java answers one call after another.
        """

        def collect() -> list[Any]:
            # The group is that of the thread.
            self._spark.setJobGroup(group, label)
            return list(rows.collect())

        waiting = self._thread.submit(collect)
        try:
            return waiting.result()
        except BaseException:
            if not waiting.done():
                self._spark.cancelJobGroup(group)
            raise

    def stop(self) -> None:
        """Stop Spark, if it was started."""
        if self._context is not None:
            self._context.stop()
        self._thread.shutdown()
        if self._shipment is not None:
            self._shipment.close()


@contextmanager
def spark_workers(
    name: str,
    cluster: Cluster,
    gpu: bool = False,
    files: Sequence[str] = (),
    inputs: Sequence[str] = (),
    activity: Activity | None = None,
) -> Iterator[Parallel]:
    """Return workers on a cluster, as a context manager that stops Spark at the end.

    On this machine they do small work in this process (see `driver_first`).

    Args:
        name: name of the run, shown by Spark.
        cluster: where they run.
        gpu: whether executors need a GPU.
        files: Python files that workers can import.
        inputs: input files that tasks read, as the recipe has them.
        activity: is told how far each map and shuffle is.
    """

    def context() -> SparkContext:
        spark = open_context(name, cluster, int(gpu))
        for file in files:
            spark.addPyFile(file)
        return spark

    activity = activity or Activity()
    workers = SparkWorkers(context, inputs, activity)
    try:
        # Workers of other machines could not write where this process reads.
        with kept_counts() if is_local(cluster.master) else nullcontext():
            if cluster.seconds_without_spark and starts_spark_here(cluster):
                budget_s, slots = cluster.seconds_without_spark, local_slots(cluster)
                yield DriverFirst(workers, budget_s, activity, slots=slots)
            else:
                yield workers
    finally:
        workers.stop()


def _raise_first_error(results: list[R]) -> list[R]:
    for result in results:
        if isinstance(result, CurationError):
            raise result
    return results
