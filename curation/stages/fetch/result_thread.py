"""The thread that writes results: small ones together, so that it is woken once for several."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from curation.stages.fetch.request import FetchResult

MAX_TOGETHER = 16
"""Results that are written together. Their bodies are kept until all of them are written."""
TOGETHER_BYTES = 256 * 1024
"""Bytes of results that are written together; a larger one is written alone."""

_Waiting = tuple[FetchResult, asyncio.Future[None]]


class ResultThread:
    """Passes results to a function in one thread, in their order; for tasks of one event loop.

    Args:
        write: called with each result.
    """

    def __init__(self, write: Callable[[FetchResult], None]) -> None:
        self._write = write
        self._thread = ThreadPoolExecutor(1, "curation-decode")
        self._waiting: deque[_Waiting] = deque()
        self._busy = False

    def __enter__(self) -> ResultThread:
        return self

    def __exit__(self, *error: object) -> None:
        # Nobody waits for these any more.
        self._waiting.clear()
        self._thread.shutdown()

    async def write(self, result: FetchResult) -> None:
        """Have a result written, and wait until it is. Errors of `write` are raised."""
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((result, written))
        if not self._busy:
            self._start()
        await written

    def _start(self) -> None:
        """Write the results that wait, as far as they fit together."""
        together = [self._waiting.popleft()]
        size = _size(together[0])
        while self._waiting and len(together) < MAX_TOGETHER:
            size += _size(self._waiting[0])
            if size > TOGETHER_BYTES:
                break
            together.append(self._waiting.popleft())
        self._busy = True
        results = [result for result, _ in together]
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._write_all, results)
        work.add_done_callback(partial(self._end, together))

    def _write_all(self, results: Sequence[FetchResult]) -> None:
        for result in results:
            self._write(result)

    def _end(self, together: Sequence[_Waiting], work: asyncio.Future[None]) -> None:
        """Let the tasks go on whose results are written, and write others, unless one failed."""
        self._busy = False
        error = None if work.cancelled() else work.exception()
        ended = list(together)
        if error is not None:
            ended += self._waiting
            self._waiting.clear()
        for _, written in ended:
            # A task that was cancelled no longer waits.
            if written.done():
                continue
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)
        if self._waiting:
            self._start()


def _size(waiting: _Waiting) -> int:
    return len(waiting[0].content or b"")
