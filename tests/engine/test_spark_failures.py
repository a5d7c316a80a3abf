"""A task whose process is killed, as by a lack of memory, is tried again; its error names the unit."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pytest
from pyspark.errors import PySparkRuntimeError

from curation.engine.cluster import Cluster, with_retries
from curation.engine.compute import compute
from curation.engine.parallel import ShuffleJob
from curation.engine.spark_failures import failure
from curation.engine.spark_workers import SparkWorkers
from curation.engine.units import WORK, Output, StageOutput, Unit
from curation.errors import StoreError, WorkerError
from curation.store.store import Store

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession


def _ends(number: int, marks: str, how: str, attempts: int) -> StageOutput:
    """Yield one row; the unit 2 ends its process, or has no memory, in its first attempts."""
    mark = Path(marks)
    if number == 2 and len(list(mark.iterdir())) < attempts:
        (mark / str(len(list(mark.iterdir())))).touch()
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise MemoryError("no memory")
    yield pa.RecordBatch.from_pylist([{"number": number}])
    return None


def _units(marks: Path, how: str, attempts: int) -> list[Unit]:
    marks.mkdir()
    folder = "work/w"
    return [
        Unit(
            f"web-0000{number}",
            _ends,
            {"number": number, "marks": str(marks), "how": how, "attempts": attempts},
            {WORK: Output("", f"{folder}/t", f"{folder}/data", f"memo{number}")},
        )
        for number in range(4)
    ]


@pytest.mark.parametrize("how", ["kill", "memory"])
def test_it_is_tried_again(spark: SparkSession, tmp_path: Path, how: str) -> None:
    store, marks = Store(tmp_path / "store"), tmp_path / "marks"
    result = compute(
        store, SparkWorkers(lambda: spark.sparkContext), "stage", _units(marks, how, 2)
    )
    assert (result.computed, len(list(marks.iterdir()))) == (4, 2)


@pytest.mark.parametrize("how", ["kill", "memory"])
def test_in_the_end_the_error_says_which_unit_and_what_to_lower(
    spark: SparkSession, tmp_path: Path, how: str
) -> None:
    store, marks = Store(tmp_path / "store"), tmp_path / "marks"
    with pytest.raises(WorkerError) as raised:
        compute(store, SparkWorkers(lambda: spark.sparkContext), "screen", _units(marks, how, 99))
    text = str(raised.value)
    assert text.startswith("screen, at web-00002: A task failed 4 times: ")
    assert "spark.executor.cores" in text and "spark.executor.memoryOverhead" in text
    assert len(list(marks.iterdir())) == 4


@pytest.mark.parametrize(
    ("master", "conf", "expected"),
    [
        ("local[*]", {}, "local[*,4]"),
        ("local[3]", {"spark.task.maxFailures": 2}, "local[3,2]"),
        ("local", {}, "local[1,4]"),
        ("local[2,7]", {}, "local[2,7]"),
        ("local-cluster[1,4,1024]", {}, "local-cluster[1,4,1024]"),
        ("spark://h:7077", {"spark.task.maxFailures": 2}, "spark://h:7077"),
    ],
)
def test_local_masters_get_the_number_of_attempts(
    master: str, conf: dict[str, Any], expected: str
) -> None:
    assert with_retries(Cluster(master=master, conf=conf)) == expected


@pytest.mark.parametrize(
    ("text", "kind", "task", "words"),
    [
        (
            "Task 7 in stage 3.0 failed 4 times, most recent failure: Lost task 7.3 in stage 3.0 (TID "
            "9) (h executor 1): ExecutorLostFailure (executor 1 exited caused by one of the running "
            "tasks) Reason: Command exited with code 137",
            WorkerError,
            7,
            "executor was lost",
        ),
        (
            "Task 0 in stage 1.0 failed 4 times: ExecutorLostFailure Reason: Container killed by YARN "
            "for exceeding physical memory limits. 9.1 GB of 9 GB used",
            WorkerError,
            0,
            "container exceeded its memory",
        ),
        ("Task 1 in stage 1.0 failed 1 times: java.lang.OutOfMemoryError", WorkerError, 1, "Java"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", WorkerError, None, "GPU"),
        ("java.io.IOException: No space left on device", StoreError, None, "disk"),
    ],
)
def test_errors_of_clusters_are_understood(
    text: str, kind: type[Exception], task: int | None, words: str
) -> None:
    known = failure(RuntimeError(text))
    assert type(known) is kind and words in str(known)
    if isinstance(known, WorkerError):
        assert known.task == task
    assert failure(RuntimeError("KeyError: 'x'")) is None


ENDS_JAVA = """
import os, signal, psutil
from curation.cli.signals import Terminated, ending_in_order
from curation.engine.cluster import load_cluster
from curation.engine.spark_workers import spark_workers
from curation.errors import WorkerError

def end_java(_):
    java = psutil.Process(os.getppid()).parent()
    assert "java" in java.name(), java
    java.terminate()
    signal.pause()

def ends_driver(_):
    os.kill(driver, signal.SIGTERM)
    signal.pause()

driver = os.getpid()
cluster = load_cluster("local").model_copy(update={"seconds_without_spark": 0})
try:
    with spark_workers("ends", cluster) as workers:
        try:
            with ending_in_order():
                workers.map("ends", ends_driver, [1])
        except Terminated as request:
            print(request)
        workers.map("ends", end_java, [1])
except WorkerError as error:
    print(error)
"""


def test_java_that_is_asked_to_end_is_lost_java_and_a_driver_ends_before_its_job() -> None:
    """As by what watches memory (earlyoom): it cancels its jobs first, so they fail in another way.

    A run that is asked to end does not wait for a task that never ends.
    """
    done = subprocess.run(
        [sys.executable, "-c", ENDS_JAVA], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("SIGTERM\n"), done.stdout + done.stderr[-3000:]
    assert "Spark's own process (Java) has ended" in done.stdout, done.stdout + done.stderr[-3000:]


def test_an_error_whose_text_java_took_with_it() -> None:
    class FromJava(Exception):
        def __str__(self) -> str:
            raise ConnectionError("no Java")

    assert "(Java) has ended" in str(failure(FromJava()))


class Stopped:
    """A session whose master has ended it: every call fails."""

    master = "spark://h:7077"

    def __getattr__(self, name: str) -> Any:
        raise PySparkRuntimeError("Cannot call methods on a stopped SparkContext.")


@pytest.mark.parametrize(
    "call",
    [
        lambda workers: workers.map("screen", str, [1]),
        lambda workers: workers.exchange(ShuffleJob("x", iter, [1], max, [1])),
        lambda workers: workers.slots,
        lambda workers: workers.gpu_slots,
    ],
)
def test_a_spark_that_its_master_has_stopped_is_one_message(
    call: Callable[[SparkWorkers], object],
) -> None:
    """A master that does not answer is noticed by whatever asks Spark for something next."""
    with pytest.raises(WorkerError, match=r"its master spark://h:7077 ended the run.*run again"):
        call(SparkWorkers(lambda: cast("SparkContext", Stopped())))


def gateway_of(spark: SparkSession) -> Any:
    """The port and the token of the gateway."""
    gateway = spark.sparkContext._gateway
    assert gateway is not None
    return gateway.gateway_parameters


def answers_of_the_gateway(spark: SparkSession, *commands: str) -> list[str]:
    """The answers to commands of Py4J, over a connection of their own."""
    answers = []
    connection = socket.create_connection(("127.0.0.1", gateway_of(spark).port), 120)
    with connection, connection.makefile("rwb", buffering=0) as stream:
        for command in commands:
            stream.write(command.encode())
            answers.append(stream.readline().decode())
    return answers


def test_the_gateway_refuses_who_has_no_token(spark: SparkSession) -> None:
    """Other users of the machine can connect to it."""
    token = gateway_of(spark).auth_token
    call = "c\nz:java.lang.System\ncurrentTimeMillis\ne\n"
    (refused,) = answers_of_the_gateway(spark, call)
    assert "Authentication error: unexpected command" in refused
    (refused,) = answers_of_the_gateway(spark, f"A\n{token[:-1]}\n")
    assert "Authentication error: bad auth token" in refused
    accepted, answer = answers_of_the_gateway(spark, f"A\n{token}\n", call)
    assert (accepted, answer[:3]) == ("!yv\n", "!yL")
