"""Where lineage events go: a file with one JSON object a line, or a server."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from curation.errors import Detail, RecipeError
from curation.terminal import ascii_json, one_line

logger = logging.getLogger(__name__)

KEY_VARIABLE = "OPENLINEAGE_API_KEY"
"""The variable with the key of the server, as clients of OpenLineage know it."""
ENDPOINT = "/api/v1/lineage"
"""The path of the server to which events are posted, if its address has none."""
TIMEOUT_S = 5.0
"""Seconds that an event may take, from the look-up of the server's name to the end of its answer."""
BUSY = {429, 502, 503, 504}
"""Statuses after which a server may take the same event later."""
FULL_DISK = {errno.ENOSPC, errno.EDQUOT}
"""Errors that no other command line mends, and that may pass while a run goes on."""
PAUSE_S = 60.0
"""Seconds for which a server that did not answer is not asked again."""


class EventSink(Protocol):
    """Takes events. A failure is a warning: no event is worth stopping the work for."""

    def send(self, event: dict[str, Any], is_last: bool = False) -> None:
        """Take an event; the last one is that with which the run ends."""


class EventFile:
    """Appends events to a file, one JSON object a line.

    Args:
        path: of the file.

    Raises:
        RecipeError: it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()
        try:
            self._append("")
        except OSError as error:
            if error.errno in FULL_DISK:
                self._warn(error)
                return
            raise RecipeError(
                f"--openlineage {path!r} cannot be written: {error.strerror}",
                fix=(
                    "Name a file in a folder that exists and that you may write, or the http(s) "
                    "address of a server"
                ),
            ) from error

    def send(self, event: dict[str, Any], is_last: bool = False) -> None:
        """See `EventSink.send`."""
        try:
            self._append(ascii_json(json.dumps(event)) + "\n")
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        logger.warning("Lineage events cannot be written to %s: %s", self._path, error)

    def _append(self, text: str) -> None:
        content = text.encode("ascii")
        # In one write: other runs may append to the same file, and their lines must not mix.
        with self._path.open("ab", buffering=0) as file:
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class EventServer:
    """Posts events to a server, in order. While it does not answer they wait, a few for each stage.

    Args:
        url: its http or https address; without a path, `/api/v1/lineage` is added.

    Raises:
        RecipeError: it is no such address.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.username or parts.password:
            raise RecipeError(
                f"--openlineage {url!r} is no address of a server",
                fix=f"Write http://HOST:PORT, and the key into the variable {KEY_VARIABLE}",
            )
        self._url = parts._replace(path=parts.path.rstrip("/") or ENDPOINT).geturl()
        self._opener = build_opener(_NoRedirects)
        self._waiting: list[dict[str, Any]] = []
        self._not_before = 0.0

    def send(self, event: dict[str, Any], is_last: bool = False) -> None:
        """See `EventSink.send`."""
        self._waiting.append(event)
        # A server that hangs would hold up the run with each event.
        if not is_last and time.monotonic() < self._not_before:
            return
        try:
            while self._waiting:
                self._post(self._waiting[0])
                del self._waiting[0]
        except (URLError, OSError, ValueError, HTTPException) as error:
            self._not_before = time.monotonic() + PAUSE_S
            logger.warning(
                "%d lineage events %s, because %s does not take any: %s",
                *(len(self._waiting), "are lost" if is_last else "wait"),
                *(self._url, one_line(str(error))),
            )

    def _post(self, event: dict[str, Any]) -> None:
        """Post an event. One that the server refuses is lost; sent again it would be refused again.

        Raises:
            OSError: the server does not answer, or cannot take events now.
        """
        headers = {"Content-Type": "application/json"}
        key = os.environ.get(KEY_VARIABLE)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        body = ascii_json(json.dumps(event)).encode("ascii")
        request = Request(self._url, data=body, headers=headers, method="POST")
        try:
            _within_timeout(lambda: self._opener.open(request, timeout=TIMEOUT_S).close())
        except HTTPError as error:
            if error.code in BUSY:
                raise
            logger.warning(
                "A lineage event was not taken by %s: %s", self._url, one_line(str(error))
            )


def _within_timeout(work: Callable[[], None]) -> None:
    """Do some work in time: the timeout of a socket begins anew with each byte that comes.

    Raises:
        TimeoutError: it has not ended. It goes on, and ends with the process.
    """
    done: Future[None] = Future()

    def run() -> None:
        try:
            work()
            done.set_result(None)
        except Exception as error:
            done.set_exception(error)

    threading.Thread(target=run, name="lineage", daemon=True).start()
    try:
        done.result(TIMEOUT_S)
    except TimeoutError as error:
        raise TimeoutError(f"timed out: no answer within {TIMEOUT_S:g} s") from error


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect, which would carry the key to another server."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Return no request: the answer is an error."""


def open_sink(target: str) -> EventSink:
    """Return where events go: the server at an http(s) address, or a file.

    Raises:
        RecipeError: the address is not valid, or the file cannot be written.
    """
    if target.lower().startswith(("http://", "https://")):
        return EventServer(target)
    if "://" in target:
        fix = "Write the path of a local file, or an http(s) address"
        raise RecipeError(
            Detail(f"no events can go to {target!r}", "--openlineage", target, fix=fix)
        )
    return EventFile(target)
