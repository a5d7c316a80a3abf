"""Many URLs at once: an event loop downloads while one thread decodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from curation.media.web.refusal import RefusedError
from curation.media.web.urls import Rules
from curation.stages.fetch.client import Client, Redirect
from curation.stages.fetch.hosts import Hosts, Trip
from curation.stages.fetch.outcome import Got, Wanted
from curation.stages.fetch.params import FetchParams


def crawl(
    wanted: Iterator[Wanted], params: FetchParams, rules: Rules, take: Callable[[Got], None]
) -> None:
    """Download every row and give it to `take`, in order of completion and in one thread.

    A body is in memory from its download until `take` is done with it, so there are never more
    than `params.concurrency` of them. Raises what `take` raises.

    Args:
        wanted: rows with a URL.
        params: bounds, and how hosts are treated.
        rules: which URLs a redirect may not lead to.
        take: takes each row.
    """
    first = next(wanted, None)
    if first is None:
        return
    wanted = chain([first], wanted)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(_Crawl(wanted, params, rules, take).run())
        return
    # A notebook has a loop of its own in this thread.
    with ThreadPoolExecutor(1, "curation-crawl") as pool:
        pool.submit(asyncio.run, _Crawl(wanted, params, rules, take).run()).result()


class _Crawl:
    def __init__(
        self,
        wanted: Iterator[Wanted],
        params: FetchParams,
        rules: Rules,
        take: Callable[[Got], None],
    ) -> None:
        self._wanted, self._params, self._rules, self._take = wanted, params, rules, take

    async def run(self) -> None:
        hosts, room = Hosts(self._wanted, self._params), asyncio.Semaphore(self._params.concurrency)
        with ThreadPoolExecutor(1, "curation-decode") as self._decoder:
            async with Client(self._params) as client:
                try:
                    async with asyncio.TaskGroup() as group:
                        while (found := await self._next(hosts, room)) is not None:
                            asking = group.create_task(self._ask(client, hosts, found))
                            asking.add_done_callback(lambda _: room.release())
                except BaseExceptionGroup as several:
                    raise several.exceptions[0] from None

    async def _next(self, hosts: Hosts, room: asyncio.Semaphore) -> Trip | None:
        """Return the next trip when there is room for it; rows that are refused go by."""
        await room.acquire()
        while isinstance(found := await hosts.next(), Got):
            await self._give(found)
        return found

    async def _ask(self, client: Client, hosts: Hosts, trip: Trip) -> None:
        try:
            answer = await client.ask(trip.url, robots=trip.row is None)
            if isinstance(answer, Redirect):
                self._check(answer)
        except RefusedError as refused:
            hosts.refused(trip, refused)
            return
        if isinstance(answer, Redirect):
            hosts.redirected(trip, answer.url)
            return
        try:
            hosts.answered(trip, answer.content if trip.row is None else b"")
            if trip.row is not None:
                await self._give(Got(trip.row, content=answer.content))
        finally:
            answer.release()

    def _check(self, redirect: Redirect) -> None:
        reason = self._rules.judge(redirect.url)[1]
        if reason is not None:
            raise RefusedError(reason)

    async def _give(self, got: Got) -> None:
        await asyncio.get_running_loop().run_in_executor(self._decoder, self._take, got)
