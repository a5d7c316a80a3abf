"""Results are written in one thread, in their order, the small ones together; an error ends all."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.stages.fetch.request import FetchRequest, FetchResult
from curation.stages.fetch.result_thread import MAX_TOGETHER, TOGETHER_BYTES, ResultThread


def result(row: int, size: int = 1) -> FetchResult:
    return FetchResult(FetchRequest(row, "http://a.example/", None, None), b"x" * size)


class Writer:
    """Notes what it gets; `fails_at` raises an error, and the first call waits for `go_on`."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.rows: list[int] = []
        self.threads: set[int] = set()
        self.started, self.go_on = threading.Event(), threading.Event()
        self._fails_at = fails_at

    def __call__(self, written: FetchResult) -> None:
        self.threads.add(threading.get_ident())
        self.started.set()
        assert self.go_on.wait(60)
        if written.request.row == self._fails_at:
            raise OSError(28, "No space left on device")
        self.rows.append(written.request.row)


async def written_by(writer: Writer, sizes: list[int]) -> list[BaseException | None]:
    """Write results of some sizes, all of which wait while the first one is written."""
    with ResultThread(writer) as results:
        tasks = [asyncio.create_task(results.write(result(r, n))) for r, n in enumerate(sizes)]
        await asyncio.to_thread(writer.started.wait, 60)
        writer.go_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([0, 1, TOGETHER_BYTES // 2, 2 * TOGETHER_BYTES]), min_size=1))
def test_each_result_is_written_once_in_order(sizes: list[int]) -> None:
    writer = Writer()
    assert asyncio.run(written_by(writer, sizes)) == [None] * len(sizes)
    assert writer.rows == list(range(len(sizes))) and len(writer.threads) == 1


@pytest.mark.parametrize("fails_at", [0, 1, MAX_TOGETHER, 3 * MAX_TOGETHER])
def test_nothing_is_written_after_an_error(fails_at: int) -> None:
    writer = Writer(fails_at)
    outcomes = asyncio.run(written_by(writer, [1] * (4 * MAX_TOGETHER)))
    assert writer.rows == list(range(fails_at))
    assert [isinstance(o, OSError) for o in outcomes[fails_at:]] == [True] * len(
        outcomes[fails_at:]
    )


def test_a_cancelled_task_does_not_stop_the_others() -> None:
    async def run(writer: Writer) -> None:
        with ResultThread(writer) as results:
            tasks = [asyncio.create_task(results.write(result(row))) for row in range(5)]
            await asyncio.to_thread(writer.started.wait, 60)
            tasks[2].cancel()
            writer.go_on.set()
            await asyncio.gather(*tasks, return_exceptions=True)

    writer = Writer()
    asyncio.run(run(writer))
    assert {0, 1, 3, 4} <= set(writer.rows)
