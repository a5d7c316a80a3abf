"""What `curation gc` and a run do so that no file is removed that the run needs.

Both write first and look second. A run writes its record or its lease, and then looks at the lease of
gc. gc takes its lease, and then looks at the records of runs and at the leases of steps. Of two that
work at the same time, the one that writes last sees the other:

- gc sees the run: it removes nothing of the stage that the run works on, nothing that the lease says
  the run reads, and nothing that the steps of the run committed last.
- The run sees gc: it waits until gc has ended, and only then looks for what is finished.

`wait_for_removal` returns a number that changes with every gc. A run that sees another number than
before looks again for everything that it found before it had the lease.
"""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager

from curation.store.holder import Holder, this_process
from curation.store.step_log import Lease, StepLog, Waiting, hold
from curation.store.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

GC = "gc"
"""The name of the log whose lease gc holds, in place of the fingerprint of a step."""


def removal_log(store: Store) -> StepLog:
    """Return the log whose lease gc holds while it removes files."""
    return StepLog(store, GC)


def hold_removal(store: Store, waiting: Waiting | None = None) -> AbstractContextManager[Lease]:
    """Take the lease of gc, and keep it while the context lasts.

    Args:
        store: where files are removed.
        waiting: what to do while another gc is at work.

    Raises:
        LeaseError: another gc is at work, and `waiting.wait` is False.
    """
    holder = this_process(f"{GC}-{uuid.uuid4().hex[:6]}")
    return hold(removal_log(store), holder, GC, {}, waiting or Waiting())


def wait_for_removal(store: Store, holder: Holder, waiting: Waiting) -> int:
    """Wait until no gc removes files; return a number that is the same until the next gc starts.

    Args:
        store: where gc may be at work.
        holder: this process. It must have written its record or its lease before.
        waiting: what to do while gc is at work.

    Raises:
        LeaseError: gc is at work, and `waiting.wait` is False.
    """
    log = removal_log(store)
    numbers = log.numbers()
    if not numbers:
        return 0
    last = log.latest()
    while last.kind == "lease":
        # Whoever waits takes the lease, so that a gc that was believed dead stops when it goes on.
        with hold(log, holder, GC, {}, waiting):
            pass
        last = log.latest()
    return last.number
