"""Has pictures of strangers decoded in other processes: `decoder_process`.

A decoder that crashes, takes too much memory or does not end costs its picture, never the task. There
is one process for each `Decoder` at work in this process; it starts with the first picture, serves the
next `Decoder` too, and ends with this process.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from curation.errors import ContractError, CurationError, RecipeError, StoreError
from curation.media.pictures.blank_picture import blank_picture
from curation.media.pictures.decoder_messages import Header, Message, packed, reason_of
from curation.media.pictures.decoder_process import DecoderProcess
from curation.media.pictures.decoder_worker import Limits
from curation.media.web.fetch_error import FetchError

logger = logging.getLogger(__name__)

Outcome = Message | FetchError
"""The answer to a request, or why there is none: `decoder_died` (the process crashed),
`decoder_timeout`, `decoder_memory`, or `error_` and the kind of an exception that nothing foresaw."""

MAX_BATCH = 8
"""Pictures that are sent together: the process is then woken once for all of them."""
MAX_SENT = 32
"""Pictures that are on their way."""
_BATCH_SHARE = 8
_SENT_SHARE = 2
_ERRORS = {kind.__name__: kind for kind in (RecipeError, ContractError, StoreError)}


class _PendingRequest(NamedTuple):
    header: Header
    parts: list[bytes]
    done: Callable[[Outcome], None]
    most: int
    otherwise: list[bytes] | None = None
    is_second_try: bool = False


class Decoder:
    """Asks one process about pictures, several at a time. Not thread-safe.

    The pictures that wait or are on their way are small and few, or one. Where somebody else has killed
    the process, its picture is tried once more. On leaving without an error, all are answered.

    Args:
        function: at the top of a module, so that another process can import it; gets a header, as JSON
            has it, and the bytes of a file, not trusted.
        limits: what each picture may use.
        most: bytes that the content of an answer may have where the file has fewer. An answer that
            claims more is `decoder_died`, and not read.

    Attributes:
        waited_s: seconds for which the last outcome was waited for.
    """

    waited_s = 0.0

    def __init__(
        self, function: Callable[..., Message], limits: Limits | None = None, most: int = 0
    ) -> None:
        self._function, self._limits, self._most = function, limits or Limits(), most
        self._waiting: list[_PendingRequest] = []
        self._sent: deque[_PendingRequest] = deque()
        self._process: DecoderProcess | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            if self._process is not None:
                _IDLE.give_back(self._function, self._limits, self._process)
                self._process = None

    def ask(
        self,
        request: Message,
        done: Callable[[Outcome], None],
        otherwise: Message | None = None,
    ) -> None:
        """Ask about a picture; `done` gets the outcome, now or in a later call.

        Args:
            request: what is asked.
            done: gets the outcome.
            otherwise: is asked instead if the request ends the process; None asks nothing more.

        Raises:
            CurationError: what the function raises for any picture, or the process does not start.
        """
        most = max(len(request.content), self._most)
        simpler = None if otherwise is None else packed(otherwise)
        asked = _PendingRequest(request.header, packed(request), done, most, simpler)
        batch_bytes = self._running().pipe_bytes // _BATCH_SHARE
        if self._waiting and _size([*self._waiting, asked]) > batch_bytes:
            self._send()
        self._waiting.append(asked)
        if len(self._waiting) >= MAX_BATCH or _size(self._waiting) >= batch_bytes:
            self._send()

    def wait(self) -> None:
        """Have all outcomes delivered.

        Raises:
            CurationError: see `ask`.
        """
        self._send()
        while self._sent:
            self._receive()

    def _send(self) -> None:
        batch, self._waiting = self._waiting, []
        while self._sent and (self._running().has_answer or not self._has_room(batch)):
            self._receive()
        self._transmit(batch)

    def _has_room(self, batch: Sequence[_PendingRequest]) -> bool:
        """Whether more can be sent, so that neither process waits for the other to read."""
        sent = [*self._sent, *batch]
        return len(sent) <= MAX_SENT and _size(sent) <= self._running().pipe_bytes // _SENT_SHARE

    def _transmit(self, batch: Sequence[_PendingRequest]) -> None:
        if not batch:
            return
        self._sent.extend(batch)
        try:
            self._running().send([part for asked in batch for part in asked.parts], len(batch))
        except FetchError as error:
            self._replace_process(error)

    def _running(self) -> DecoderProcess:
        if self._process is None:
            self._process = _IDLE.take(self._function, self._limits)
        return self._process

    def _receive(self) -> None:
        """Deliver the outcome of the oldest picture on its way."""
        try:
            answer = self._running().receive(self._sent[0].most)
            self.waited_s = self._running().waited_s
            if "refused" in answer.header:
                self._check_refusal(self._sent[0])
        except FetchError as error:
            self._replace_process(error)
            return
        asked = self._sent.popleft()
        asked.done(_outcome(answer))

    def _check_refusal(self, asked: _PendingRequest) -> None:
        """Check an error that would end the run: a picture may have taken the process over.

        Raises:
            CurationError: a new process raises it for a blank picture, too.
            FetchError: `decoder_died`: it does not.
        """
        process = DecoderProcess(self._function, self._limits)
        try:
            process.send(packed(Message(asked.header, blank_picture())), 1)
            answer = process.receive(asked.most)
        finally:
            process.close()
        if "refused" not in answer.header:
            raise FetchError("decoder_died")
        kind = _ERRORS.get(str(answer.header["refused"]), CurationError)
        raise kind(str(answer.header.get("message")))

    def _replace_process(self, error: FetchError) -> None:
        """The process has ended at the oldest picture on its way; send the others to another one."""
        ended, self._process = self._running(), None
        waited_s = ended.waited_s
        ended.close()
        asked, others = self._sent[0], list(self._sent)[1:]
        self._sent.clear()
        if error.reason == "decoder_died" and ended.was_killed and not asked.is_second_try:
            logger.warning(
                "the process that decodes pictures was killed; its picture is tried again"
            )
            self._transmit([asked._replace(is_second_try=True), *others])
            return
        if asked.otherwise is not None:
            self._transmit([asked._replace(parts=asked.otherwise, otherwise=None), *others])
            return
        self._transmit(others)
        self.waited_s = waited_s
        asked.done(error)


def _size(batch: Sequence[_PendingRequest]) -> int:
    return sum(len(part) for asked in batch for part in asked.parts)


def _outcome(answer: Message) -> Outcome:
    """Return the outcome of an answer that is no refusal."""
    if "failed" in answer.header:
        logger.info("a picture cannot be decoded: %s", answer.header.get("error"))
        return FetchError(reason_of(answer.header["failed"]))
    return answer


class _Idle:
    """The processes that wait for a picture."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start without processes: those of a process that was forked belong to its parent."""
        self._lock = threading.Lock()
        self._processes: dict[Any, list[DecoderProcess]] = {}

    def take(self, function: Callable[..., Message], limits: Limits) -> DecoderProcess:
        """Return a process that waits, or a new one."""
        with self._lock:
            waiting = self._processes.get((function, limits), [])
            while waiting:
                process = waiting.pop()
                if process.waits:
                    return process
                process.close()
        return DecoderProcess(function, limits)

    def give_back(
        self, function: Callable[..., Message], limits: Limits, process: DecoderProcess
    ) -> None:
        """Let a process wait for the next picture; one that still has to answer is ended."""
        if not process.waits:
            process.close()
            return
        with self._lock:
            self._processes.setdefault((function, limits), []).append(process)

    def close(self) -> None:
        """End all processes that wait."""
        with self._lock:
            for process in self._all():
                process.close()
            self._processes.clear()

    def _all(self) -> Iterator[DecoderProcess]:
        for processes in self._processes.values():
            yield from processes


_IDLE = _Idle()
atexit.register(_IDLE.close)
os.register_at_fork(after_in_child=_IDLE.forget)
