"""Virtual time, and threads of which exactly one runs at a time.

A seed decides who goes on wherever a thread pauses: at each request to the storage, and when it sleeps.
Nothing waits for real time. The same seed gives the same schedule.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

LIMIT_S = 50_000.0
"""Virtual seconds after which a schedule counts as one that never ends."""


class Killed(BaseException):
    """Ends the threads of a process that was killed. No `except Exception` catches it."""


class EndlessError(Exception):
    """A schedule does not come to an end."""


@dataclass
class Process:
    """A simulated process.

    Attributes:
        name: unique.
        host: processes of one host see whether the others have ended.
        rate: seconds of its clock in a true second.
        offset: of its clock.
        ended: it was killed, or came to its end.
        frozen_until: it does nothing before this time.
    """

    name: str
    host: str
    rate: float = 1.0
    offset: float = 0.0
    ended: bool = False
    frozen_until: float = 0.0


@dataclass(eq=False)
class Task:
    """A thread of a process."""

    process: Process
    function: Callable[[], None]
    ready_at: float
    baton: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    done: bool = False

    @property
    def goes_on_at(self) -> float:
        """When it may go on; a thread of a killed process goes on at once, and ends."""
        return 0.0 if self.process.ended else max(self.ready_at, self.process.frozen_until)


class Scheduler:
    """Decides which thread goes on.

    Args:
        random: draws all decisions.

    Attributes:
        now: virtual seconds.
        failures: exceptions that left a thread.
    """

    def __init__(self, random: Random) -> None:
        self.random, self.now = random, 0.0
        self.failures: list[BaseException] = []
        self._tasks: list[Task] = []
        self._current: Task | None = None
        self._effects: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0
        self._finished = threading.Event()

    @property
    def process(self) -> Process:
        """The process of the thread that runs."""
        assert self._current is not None
        return self._current.process

    def spawn(self, process: Process, function: Callable[[], None], delay_s: float = 0.0) -> Task:
        """Start a thread of a process."""
        task = Task(process, function, self.now + delay_s)
        self._tasks.append(task)
        threading.Thread(target=self._main, args=(task,), daemon=True).start()
        return task

    def run(self) -> None:
        """Run all threads to their end.

        Raises:
            BaseException: the first that left a thread.
        """
        self._finished.clear()
        self._pass_on()
        self._finished.wait()
        if self.failures:
            raise self.failures[0]

    def pause(self, seconds: float = 0.0) -> None:
        """Let others go on, for some virtual seconds at least; called by the thread that runs."""
        task = self._current
        assert task is not None
        task.ready_at = self.now + seconds
        following = self._next()
        if following is not task:
            assert following is not None
            self._current = following
            following.baton.release()
            task.baton.acquire()
        if task.process.ended:
            raise Killed

    def later(self, seconds: float, effect: Callable[[], object]) -> None:
        """Let something happen after some virtual seconds, whatever becomes of the thread."""
        self._count += 1
        heapq.heappush(self._effects, (self.now + seconds, self._count, effect))

    def drain(self) -> None:
        """Let everything happen that was to happen later."""
        while self._effects:
            self.now = max(self.now, self._effects[0][0])
            self._apply_effects()

    def _main(self, task: Task) -> None:
        task.baton.acquire()
        try:
            if not task.process.ended:
                task.function()
        except Killed:
            pass
        except BaseException as error:
            self.failures.append(error)
        task.done = True
        self._tasks.remove(task)
        self._pass_on()

    def _pass_on(self) -> None:
        following = self._current = self._next()
        if following is None:
            self._finished.set()
        else:
            following.baton.release()

    def _next(self) -> Task | None:
        """Return the thread that goes on; None if all have ended."""
        if self.now > LIMIT_S and not self.failures:
            self.failures.append(EndlessError(f"the schedule does not end within {LIMIT_S:.0f} s"))
        if self.failures:
            for task in self._tasks:
                task.process.ended = True
        while self._tasks:
            ready = [task for task in self._tasks if task.goes_on_at <= self.now]
            if ready:
                return self.random.choice(ready)
            following = min(task.goes_on_at for task in self._tasks)
            if self._effects:
                following = min(following, self._effects[0][0])
            self.now = max(self.now, following)
            self._apply_effects()
        return None

    def _apply_effects(self) -> None:
        while self._effects and self._effects[0][0] <= self.now:
            heapq.heappop(self._effects)[2]()


class SimulatedClock:
    """The clock of a simulated process: see `curation.store.clock.Clock`."""

    def __init__(self, scheduler: Scheduler, process: Process) -> None:
        self._scheduler, self._process = scheduler, process

    def monotonic(self) -> float:
        """Return seconds of the clock of the process, which may be fast or slow."""
        return self._process.offset + self._scheduler.now * self._process.rate

    def sleep(self, seconds: float) -> None:
        """Wait for seconds of the clock of the process."""
        self._scheduler.pause(seconds / self._process.rate)

    def repeat(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        """Call a function again and again in a thread of the process, as `SystemClock` does."""
        scheduler = self._scheduler
        ended, sleeping = [False], [True]

        def loop() -> None:
            while True:
                sleeping[0] = True
                self.sleep(0.0 if ended[0] else seconds)
                sleeping[0] = False
                if ended[0]:
                    return
                call()

        task = scheduler.spawn(self._process, loop)

        def end() -> None:
            ended[0] = True
            while not task.done:
                if sleeping[0]:
                    task.ready_at = scheduler.now
                scheduler.pause(0.001)

        return end
