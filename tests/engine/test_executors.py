"""A cluster that gives too few executors, or whose master is not there, is told in time."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.engine.executors import (
    PATIENCE_S,
    REPEAT_S,
    ExecutorWatch,
    Offer,
    advice,
    announced_start,
    check_master,
)
from curation.errors import RecipeError, StartError


class _Java:
    """What the watch asks of a session: the number of executors, with the driver, and their memory."""

    def __init__(self, executors: list[int]) -> None:
        self._executors = executors

    def sc(self) -> _Java:
        return self

    def getExecutorMemoryStatus(self) -> _Java:
        return self

    def size(self) -> int:
        return 1 + self._executors[0]

    def executorMemory(self) -> int:
        return 2048


class _Context:
    def __init__(self, executors: list[int], **conf: str) -> None:
        self._jsc, self.master = _Java(executors), "yarn"
        self._conf = {name.replace("_", "."): value for name, value in conf.items()}

    def getConf(self) -> Any:
        return self._conf


def _watch(seconds: list[float], executors: list[int], **conf: str) -> tuple[Any, list[str]]:
    messages: list[str] = []
    context = _Context(executors, **conf)
    return ExecutorWatch(context, messages.append, lambda: seconds[0]), messages


@pytest.mark.parametrize(("master", "word"), [("local[*]", "busy"), ("yarn", "same secret")])
def test_a_slow_start_is_explained(
    master: str, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    logged = threading.Event()
    caplog.handler.addFilter(lambda record: logged.set() or True)  # type: ignore[func-returns-value]
    with announced_start(master, 0.0):
        assert logged.wait(30)
    assert word in caplog.text and ("secret" in caplog.text) == (master == "yarn")


def test_it_speaks_within_thirty_seconds_and_again_when_they_come() -> None:
    seconds, executors = [0.0], [0]
    watch, messages = _watch(seconds, executors)
    spoken: list[int] = []
    for second in range(400):
        seconds[0] = float(second)
        watch.check()
        if len(messages) > len(spoken):
            spoken.append(second)
    assert spoken == [PATIENCE_S, PATIENCE_S + REPEAT_S]
    assert spoken[0] <= 30
    assert "for 20 s" in messages[0] and "yarn" in messages[0]
    executors[0] = 1
    watch.check()
    watch.check()
    assert messages[2:] == ["1 executors have started. The run goes on."]


def test_it_counts_those_that_were_asked_for() -> None:
    seconds, executors = [0.0], [3]
    watch, messages = _watch(seconds, executors, spark_executor_instances="4")
    seconds[0] = 25.0
    watch.check()
    assert "Only 3 executors have started" in messages[0]
    executors[0] = 4
    assert _after(watch, messages) == "4 executors have started. The run goes on."
    dynamic = {"spark_dynamicAllocation_enabled": "true", "spark_executor_instances": "9"}
    seconds[0] = 0.0
    watch, messages = _watch(seconds, [1], **dynamic)
    seconds[0] = 100.0
    watch.check()
    assert messages == []


def _after(watch: Any, messages: list[str]) -> str:
    watch.check()
    return messages[-1]


OFFERS = st.lists(
    st.builds(Offer, st.just("host"), st.integers(1, 64), st.integers(512, 1 << 20)), min_size=1
)


@given(OFFERS, st.integers(0, 3), st.integers(1, 128), st.integers(512, 1 << 21))
def test_what_is_advised_would_help(
    offers: list[Offer], others: int, cores: int, memory: int
) -> None:
    text = advice(offers, others, cores, memory)
    fits = any(offer.cores >= cores and offer.memory >= memory for offer in offers)
    assert fits == ("No worker can hold" not in text)
    if not fits:
        most = max(o.cores for o in offers), max(o.memory for o in offers)
        assert (f"spark.executor.cores to {most[0]} or less" in text) == (cores > most[0])
        assert (f"spark.executor.memory to {most[1]}m or less" in text) == (memory > most[1])
    elif others:
        assert "wait" in text
    assert "no worker that lives" in advice([], others, cores, memory)


def test_a_master_that_does_not_answer_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_master(f"spark://127.0.0.1:{port}")
        check_master(f"spark://127.0.0.1:1,127.0.0.1:{port}")
    with pytest.raises(StartError, match="No Spark master answers"):
        check_master("spark://127.0.0.1:1")
    for place in ("127.0.0.1", "127.0.0.1:99999", "127.0.0.1:0", "127.0.0.1:\u00b2", "127.0.0.1:"):
        with pytest.raises(RecipeError, match="no address of a Spark master"):
            check_master(f"spark://{place}")
    for master in ("local[*]", "yarn", "k8s://https://host:6443", ""):
        check_master(master)
