"""What a failed Spark job says to a user: a full disk, a lack of memory, a worker that was ended."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from curation.engine.cluster import is_local
from curation.errors import CurationError, StoreError, WorkerError

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

_KEPT = "run again: what is finished is kept"
_TASK = re.compile(r"Task (\d+) in stage [\d.]+ failed (\d+) times")
_STOPPED = re.compile(r"SparkContext was shut down|stopped SparkContext")
"""Java, asked to end, cancels its jobs before it does. So does one whose cluster has ended the run."""
_SIGNS = (
    (r"Python worker exited unexpectedly", "its Python process ended without an answer"),
    (r"java\.lang\.OutOfMemoryError", "Java had no memory left"),
    (r"torch\.OutOfMemoryError|CUDA out of memory", "the GPU had no memory left"),
    (r"MemoryError\b|can't allocate memory", "Python had no memory left"),
    (r"(?i)exceeding .{0,20}memory limits|OOMKilled", "its container exceeded its memory"),
    (r"ExecutorLostFailure", "its executor was lost"),
)
"""What the error of Spark contains, and what it means."""
LOWER = (
    "Where a process ends so, memory is mostly short. Let fewer tasks run at the same time (`master: "
    "local[1]`, or a smaller `spark.executor.cores`), give executors more memory "
    "(`spark.executor.memoryOverhead` for Python, `spark.executor.memory` for Java), or lower what a "
    "task holds: `embed.batch_size`, or `ingest.rows_per_fragment`, with which all is computed anew"
)


@contextmanager
def explained(master: Callable[[], str]) -> Iterator[None]:
    """Raise errors of Spark within a context as errors for the user, where their cause is known.

    Args:
        master: returns the master of the session.

    Raises:
        StoreError: a disk is full.
        WorkerError: a worker ended again and again, or Spark itself did.
    """
    from py4j.protocol import Py4JError, Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JJavaError, PySparkException) as error:
        known = failure(error, master())
        if known is None:
            raise
        raise known from error
    except (Py4JError, ConnectionError) as error:
        raise lost_java() from error


def failure(error: Exception, master: str = "local") -> CurationError | None:
    """Return the error for the user of a failed Spark job; None if the job failed by another cause.

    Args:
        error: what Spark raised.
        master: of the session.
    """
    try:
        text = str(error)
    except Exception:
        # Its text comes from Java, which may have ended.
        return lost_java()
    if _STOPPED.search(text):
        return lost_java() if is_local(master) else _stopped(master)
    if os.strerror(errno.ENOSPC) in text:
        return StoreError(
            "A disk for temporary files is full",
            fix=(
                "Free some space, or set TMPDIR and SPARK_LOCAL_DIRS to folders on a larger "
                f"disk, and {_KEPT}"
            ),
        )
    meaning = next((meaning for sign, meaning in _SIGNS if re.search(sign, text)), None)
    if meaning is None:
        return None
    match = _TASK.search(text)
    task, times = (int(match[1]), int(match[2])) if match else (None, 1)
    fix = f"{LOWER}, and {_KEPT}"
    return WorkerError(f"A task failed {times} times: {meaning}", task=task, fix=fix)


def _stopped(master: str) -> CurationError:
    return WorkerError(
        f"Spark has stopped, because its master {master} ended the run, or did not accept it",
        fix=(
            "See whether the master answers, and what its log says: runs and daemons need the same "
            f"secret and the same version of Spark. Then {_KEPT}"
        ),
    )


def lost_java() -> CurationError:
    """Return the error for the user after Java, the driver of Spark, has ended."""
    return WorkerError(
        "Spark's own process (Java) has ended. Mostly the system ends it, because memory is short, "
        "or somebody stopped it",
        fix=(
            "Let fewer tasks run at the same time (`master: local[1]`), or lower "
            f"`spark.driver.memory` if it is more than the machine has, and {_KEPT}"
        ),
    )
