"""Many URLs at once: an event loop downloads while one thread decodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from curation.fetch.client import Client
from curation.fetch.outcome import Got, RefusedError, Wanted
from curation.params import FetchParams


def crawl(wanted: Iterator[Wanted], params: FetchParams, take: Callable[[Got], None]) -> None:
    """Download every row and give it to `take`, in order of completion and in one thread.

    A row is in memory from its download until `take` is done with it, so there are never more
    than `params.concurrency` of them. Raises what `take` raises.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(_crawl(wanted, params, take))
        return
    # A notebook has a loop of its own in this thread.
    with ThreadPoolExecutor(1, "curation-crawl") as pool:
        pool.submit(asyncio.run, _crawl(wanted, params, take)).result()


async def _crawl(
    wanted: Iterator[Wanted], params: FetchParams, take: Callable[[Got], None]
) -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, "curation-decode") as decoder:
        async with Client(params) as client:

            async def work() -> None:
                for row in wanted:
                    await one(row)

            async def one(row: Wanted) -> None:
                # A function of its own, so that no body outlives its share of the budget.
                try:
                    body = await client.get(row.url or "")
                except RefusedError as refused:
                    await loop.run_in_executor(decoder, take, Got(row, reason=refused.reason))
                    return
                try:
                    await loop.run_in_executor(decoder, take, Got(row, content=body.content))
                finally:
                    body.release()

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(params.concurrency):
                        group.create_task(work())
            except BaseExceptionGroup as several:
                raise several.exceptions[0] from None
