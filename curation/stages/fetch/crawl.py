"""Downloads many URLs at once: an event loop downloads while one thread decodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

from curation.masking import mask_address
from curation.media.web.fetch_error import FetchError, unforeseen
from curation.media.web.guard import Guard
from curation.media.web.opt_outs.policy import opt_out_policy
from curation.media.web.opt_outs.site import RSL, SiteRules, read_site_file
from curation.media.web.urls import UrlRules, host_of, port_of
from curation.stages.fetch.client import Body, Client, Redirect
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.request import FetchRequest, FetchResult, HttpRequest
from curation.stages.fetch.result_thread import ResultThread
from curation.stages.fetch.scheduler import HostScheduler

_PARSED_AT_ONCE = 16 * 1024
"""Bytes of a site's file that are parsed in the event loop; a longer one is parsed in a thread."""


def crawl(
    rows: Iterator[FetchRequest],
    params: FetchParams,
    rules: UrlRules,
    write: Callable[[FetchResult], None],
    waiting: Callable[[], None],
) -> None:
    """Download every row and pass it to `write`, in order of completion and in one thread.

    A body is in memory from its download until `write` returns, so there are never more than
    `params.concurrency` bodies in memory, besides those that `write` keeps. Errors of `write` are
    raised.

    Args:
        rows: rows with a URL.
        params: limits, and how hosts are treated.
        rules: the URL rules that redirects must follow.
        write: called with the result of each row.
        waiting: called once few requests run and no more may start for now; also several times.
    """
    first = next(rows, None)
    if first is None:
        return
    rows = chain([first], rows)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(_Crawl(rows, params, rules, write, waiting).run())
        return
    # A notebook runs an event loop in this thread already.
    with ThreadPoolExecutor(1, "curation-crawl") as pool:
        pool.submit(asyncio.run, _Crawl(rows, params, rules, write, waiting).run()).result()


class _Crawl:
    def __init__(
        self,
        rows: Iterator[FetchRequest],
        params: FetchParams,
        rules: UrlRules,
        write: Callable[[FetchResult], None],
        waiting: Callable[[], None],
    ) -> None:
        self._rows, self._params, self._rules, self._write = rows, params, rules, write
        self._waiting = waiting
        self._guard = Guard(params.allow_hosts, params.ports)
        self._policy = opt_out_policy(params)

    async def run(self) -> None:
        slots = asyncio.Semaphore(self._params.concurrency)
        with ResultThread(self._write) as self._results:
            async with Client(self._params) as client:
                scheduler = HostScheduler(
                    self._rows, self._params, client.lookups, partial(self._note_waiting, client)
                )
                try:
                    async with asyncio.TaskGroup() as group:
                        while (request := await self._next(scheduler, slots)) is not None:
                            task = group.create_task(self._send(client, scheduler, request))
                            task.add_done_callback(lambda _: slots.release())
                except BaseExceptionGroup as errors:
                    raise errors.exceptions[0] from None

    def _note_waiting(self, client: Client) -> None:
        """Let another crawl start beside this one, if both fit into memory."""
        if client.may_wait():
            self._waiting()

    async def _next(self, scheduler: HostScheduler, slots: asyncio.Semaphore) -> HttpRequest | None:
        """Return the next request when a slot is free; write the rows that fail without one."""
        await slots.acquire()
        while isinstance(item := await scheduler.next(), FetchResult):
            await self._results.write(item)
        return item

    async def _send(self, client: Client, scheduler: HostScheduler, request: HttpRequest) -> None:
        try:
            response = await self._ask(client, request)
        except FetchError as error:
            scheduler.failed(request, error)
            return
        if isinstance(response, Redirect):
            scheduler.redirected(request, response.url)
        elif isinstance(response, SiteRules):
            for _ in scheduler.apply_rules(request, response):
                await asyncio.sleep(0)
        elif request.row is not None:
            try:
                scheduler.succeeded(request, request.row)
                result = FetchResult(
                    request.row,
                    response.content,
                    final_url=_stored_url(request),
                    license=request.license or response.license,
                )
                await self._results.write(result)
            finally:
                response.release()

    async def _ask(self, client: Client, request: HttpRequest) -> Body | Redirect | SiteRules:
        """Send a request, and return what its host answers. Here ends whatever a host can cause.

        Raises:
            FetchError: for every exception that the request alone causes, also unforeseen ones.
        """
        try:
            if request.file is not None and request.file.kind == RSL:
                # Any host may name it, and any address.
                self._check(request.url)
            response = await client.get(request.url, of_site=request.row is None)
            if isinstance(response, Redirect):
                self._check(response.url)
            elif request.row is None:
                return await self._read_rules(request, response)
        except FetchError:
            raise
        except Exception as error:
            raise unforeseen(error) from error
        return response

    async def _read_rules(self, request: HttpRequest, body: Body) -> SiteRules:
        assert request.file is not None
        content, origin = body.content, request.rules_of
        arguments = request.file, content, request.known, self._policy, origin
        try:
            if len(content) <= _PARSED_AT_ONCE:
                return read_site_file(*arguments)
            return await asyncio.to_thread(read_site_file, *arguments)
        finally:
            body.release()

    def _check(self, url: str) -> None:
        """Raise an error for a URL that no list has, if it may not be requested."""
        reason = self._rules.check(url)[1]
        if reason is None and self._params.contact is None:
            host, port = host_of(url), port_of(url)
            if self._guard.may_request(host, port) and not self._guard.is_listed(host):
                reason = "no_contact"
        if reason is not None:
            raise FetchError(reason)


def _stored_url(request: HttpRequest) -> str:
    """Return the URL that gave the bytes; of one that the list does not have, without its secrets."""
    listed = request.row is not None and request.row.url == request.url
    return request.url if listed else mask_address(request.url)
