"""Downloads many URLs at once: an event loop downloads while one thread decodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from curation.masking import mask_address
from curation.media.web.fetch_error import FetchError
from curation.media.web.guard import Guard
from curation.media.web.urls import UrlRules, host_of, port_of
from curation.stages.fetch.client import Client, Redirect
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.request import FetchRequest, FetchResult, HttpRequest
from curation.stages.fetch.scheduler import HostScheduler


def crawl(
    rows: Iterator[FetchRequest],
    params: FetchParams,
    rules: UrlRules,
    write: Callable[[FetchResult], None],
) -> None:
    """Download every row and pass it to `write`, in order of completion and in one thread.

    A body is in memory from its download until `write` returns, so there are never more than
    `params.concurrency` bodies in memory. Errors of `write` are raised.

    Args:
        rows: rows with a URL.
        params: limits, and how hosts are treated.
        rules: the URL rules that redirects must follow.
        write: called with the result of each row.
    """
    first = next(rows, None)
    if first is None:
        return
    rows = chain([first], rows)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(_Crawl(rows, params, rules, write).run())
        return
    # A notebook runs an event loop in this thread already.
    with ThreadPoolExecutor(1, "curation-crawl") as pool:
        pool.submit(asyncio.run, _Crawl(rows, params, rules, write).run()).result()


class _Crawl:
    def __init__(
        self,
        rows: Iterator[FetchRequest],
        params: FetchParams,
        rules: UrlRules,
        write: Callable[[FetchResult], None],
    ) -> None:
        self._rows, self._params, self._rules, self._write = rows, params, rules, write
        self._guard = Guard(params.allow_hosts, params.ports)

    async def run(self) -> None:
        scheduler = HostScheduler(self._rows, self._params)
        slots = asyncio.Semaphore(self._params.concurrency)
        with ThreadPoolExecutor(1, "curation-decode") as self._decoder:
            async with Client(self._params) as client:
                try:
                    async with asyncio.TaskGroup() as group:
                        while (request := await self._next(scheduler, slots)) is not None:
                            task = group.create_task(self._send(client, scheduler, request))
                            task.add_done_callback(lambda _: slots.release())
                except BaseExceptionGroup as errors:
                    raise errors.exceptions[0] from None

    async def _next(self, scheduler: HostScheduler, slots: asyncio.Semaphore) -> HttpRequest | None:
        """Return the next request when a slot is free; write the rows that fail without one."""
        await slots.acquire()
        while isinstance(item := await scheduler.next(), FetchResult):
            await self._write_in_thread(item)
        return item

    async def _send(self, client: Client, scheduler: HostScheduler, request: HttpRequest) -> None:
        try:
            response = await client.get(request.url, robots=request.row is None)
            if isinstance(response, Redirect):
                self._check(response)
        except FetchError as error:
            scheduler.failed(request, error)
            return
        if isinstance(response, Redirect):
            scheduler.redirected(request, response.url)
            return
        try:
            scheduler.succeeded(request, response.content if request.row is None else b"")
            if request.row is not None:
                result = FetchResult(request.row, response.content, final_url=_stored_url(request))
                await self._write_in_thread(result)
        finally:
            response.release()

    def _check(self, redirect: Redirect) -> None:
        reason = self._rules.check(redirect.url)[1]
        if reason is None and self._params.contact is None:
            host, port = host_of(redirect.url), port_of(redirect.url)
            if self._guard.may_request(host, port) and not self._guard.is_listed(host):
                reason = "no_contact"
        if reason is not None:
            raise FetchError(reason)

    async def _write_in_thread(self, result: FetchResult) -> None:
        await asyncio.get_running_loop().run_in_executor(self._decoder, self._write, result)


def _stored_url(request: HttpRequest) -> str:
    """Return the URL that gave the bytes; of one that the list does not have, without its secrets."""
    listed = request.row is not None and request.row.url == request.url
    return request.url if listed else mask_address(request.url)
