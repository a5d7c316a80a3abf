"""A simulated object store: requests take time, fail, are repeated, and take effect late."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, BinaryIO, Literal, TypeVar

import pyarrow as pa
from obstore.exceptions import GenericError

from curation.store.storage.base import FileStatus

from .scheduler import Killed, Scheduler

T = TypeVar("T")

Fault = Literal[
    "kill before", "kill after", "kill, effect later",
    "fail before", "fail after", "fail, effect later",
    "repeat", "repeat later", "freeze before", "freeze after", "slow",
]  # fmt: skip
FAULTS: tuple[Fault, ...] = (
    "kill before", "kill after", "kill, effect later",
    "fail before", "fail after", "fail, effect later",
    "repeat", "repeat later", "freeze before", "freeze after", "slow",
)  # fmt: skip
LATE_S = 150.0
"""An effect is late by at most so many seconds: more than it takes to overtake a holder."""
FROZEN_S = 200.0
"""A process is frozen for at most so many seconds."""


@dataclass
class Server:
    """The objects of a store, and every entry that was added to a log of a step.

    Attributes:
        objects: content and time of the last change, by path.
        entries: paths and contents of created entries, in the order in which they were created.
        source: what the source files of a recipe hold now; it stands for files outside the store.
    """

    scheduler: Scheduler
    objects: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    entries: list[tuple[str, bytes]] = field(default_factory=list)
    source: int = 0

    def put(self, path: str, content: bytes) -> None:
        """Write or replace an object."""
        self.objects[path] = content, self.scheduler.now

    def put_if_absent(self, path: str, content: bytes) -> bool:
        """Write an object that is not there; return whether it was so."""
        if path in self.objects:
            return False
        self.put(path, content)
        if path.startswith("steps/"):
            self.entries.append((path, content))
        return True

    def delete(self, path: str) -> None:
        """Delete an object, if it is there."""
        self.objects.pop(path, None)


@dataclass
class Faults:
    """Draws the faults of a schedule.

    Args:
        random: draws them.
        left: how many there are at most, so that every schedule comes to an end.
        mean_gap: mean number of requests between two faults.
    """

    random: Random
    left: int
    mean_gap: float
    happened: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._gap = self._draw_gap()

    def _draw_gap(self) -> int:
        return int(self.random.expovariate(1 / self.mean_gap))

    def draw(self) -> Fault | None:
        """Return the fault of the next request; None for none."""
        if self.left <= 0:
            return None
        self._gap -= 1
        if self._gap >= 0:
            return None
        self.left, self._gap = self.left - 1, self._draw_gap()
        fault = self.random.choice(FAULTS)
        self.happened.append(fault)
        return fault


_NUMBERS = itertools.count()
"""Numbers of the storages, for their addresses."""


class SimulatedStorage:
    """The store as one process reaches it: see `curation.store.storage.base.Storage`.

    It keeps the rules of `ObjectStorage`: a request that was repeated after its reply was lost takes
    effect twice, and `create` knows its object by the content.
    """

    is_local = False
    root = ""
    can_create_exclusively = True

    def __init__(self, server: Server, faults: Faults) -> None:
        self.server, self._faults, self._scheduler = server, faults, server.scheduler
        # The engine keeps small files in memory by address, and each process has its own memory.
        self.uri = f"simulated://store-{next(_NUMBERS)}"
        # Where real stores have a file system of pyarrow; of that, the checks of a file use this.
        self.filesystem: Any = self

    def open_input_stream(self, path: str) -> Any:
        """Open a file for reading."""
        content = self.read(path.lstrip("/"))
        if content is None:
            raise FileNotFoundError(path)
        return pa.BufferReader(content)

    def read(self, path: str) -> bytes | None:
        """See `Storage.read`."""
        return self._request(lambda: self.server.objects.get(path, (None, 0))[0], changes=False)

    def write(self, path: str, content: bytes) -> None:
        """See `Storage.write`."""
        self._request(lambda: self.server.put(path, content))

    def create(self, path: str, content: bytes) -> bool:
        """See `Storage.create`."""
        if self._request(lambda: self.server.put_if_absent(path, content)):
            return True
        return bool(content) and self.read(path) == content

    @contextmanager
    def open_output(self, path: str) -> Iterator[BinaryIO]:
        """See `Storage.open_output`."""
        stream = io.BytesIO()
        yield stream
        self.write(path, stream.getvalue())

    def status(self, path: str) -> FileStatus | None:
        """See `Storage.status`."""

        def head() -> FileStatus | None:
            if path not in self.server.objects:
                return None
            content, modified = self.server.objects[path]
            return FileStatus(len(content), modified)

        return self._request(head, changes=False)

    def files(self, folder: str, recursive: bool = False) -> dict[str, FileStatus]:
        """See `Storage.files`."""
        start = f"{folder}/" if folder else ""

        def listing() -> dict[str, FileStatus]:
            return {
                path: FileStatus(len(content), modified)
                for path, (content, modified) in sorted(self.server.objects.items())
                if path.startswith(start) and (recursive or "/" not in path[len(start) :])
            }

        return self._request(listing, changes=False)

    def folders(self, folder: str) -> list[str]:
        """See `Storage.folders`."""
        start = f"{folder}/" if folder else ""

        def listing() -> list[str]:
            below = (p[len(start) :] for p in self.server.objects if p.startswith(start))
            return sorted({path.split("/")[0] for path in below if "/" in path})

        return self._request(listing, changes=False)

    def copy(self, source: str, target: str) -> None:
        """See `Storage.copy`."""

        def copy() -> None:
            if source not in self.server.objects:
                raise FileNotFoundError(source)
            self.server.put(target, self.server.objects[source][0])

        self._request(copy)

    def delete(self, paths: Iterable[str]) -> None:
        """See `Storage.delete`: one request for each object, as some stores need it."""
        for path in list(paths):
            self._request(partial(self.server.delete, path))

    def delete_folder(self, folder: str) -> None:
        """See `Storage.delete_folder`."""
        self.delete(self.files(folder, recursive=True))

    def _request(self, effect: Callable[[], T], changes: bool = True) -> T:
        """Send a request: it takes time, others go on meanwhile, and it may meet a fault."""
        scheduler, random = self._scheduler, self._scheduler.random
        if scheduler.process.ended:
            raise Killed
        fault = self._faults.draw()
        scheduler.pause(random.uniform(0.001, 0.05))
        if fault is None:
            result = effect()
            if changes:
                scheduler.pause(random.uniform(0.001, 0.05))
            return result
        return self._request_with_fault(effect, changes, fault)

    def _request_with_fault(self, effect: Callable[[], T], changes: bool, fault: Fault) -> T:
        scheduler, random = self._scheduler, self._scheduler.random
        kind, _, when = fault.replace(",", "").partition(" ")
        if when == "effect later" and changes:
            scheduler.later(random.uniform(0, LATE_S), _without_error(effect))
        if kind == "freeze" and when == "before":
            self._freeze()
        if kind == "slow":
            scheduler.pause(random.uniform(0, 30))
        result = effect() if when == "after" or kind in ("freeze", "slow", "repeat") else None
        if kind == "repeat" and changes:
            # The client gets no reply to the first request, or the first arrives after the second.
            scheduler.pause(random.choice((0.01, 1.0, 5.0)))
            if when == "later":
                scheduler.later(random.uniform(0, 30), _without_error(effect))
            else:
                result = effect()
        if kind == "freeze" and when == "after":
            self._freeze()
        if kind.startswith("kill"):
            scheduler.process.ended = True
            raise Killed
        if kind.startswith("fail"):
            scheduler.pause(random.choice((0.0, 1.0, 30.0)))
            raise GenericError("the connection was lost")
        return result  # type: ignore[return-value]

    def _freeze(self) -> None:
        scheduler = self._scheduler
        seconds = scheduler.random.uniform(0, FROZEN_S)
        scheduler.process.frozen_until = scheduler.now + seconds
        scheduler.pause()


def _without_error(effect: Callable[[], object]) -> Callable[[], None]:
    def apply() -> None:
        try:
            effect()
        except FileNotFoundError:
            # A copy whose source has gone since: nobody gets the reply.
            return

    return apply
