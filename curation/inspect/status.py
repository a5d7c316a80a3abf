"""The runs of a store as others see them: what works, how far it is, and who holds which lease.

A run writes its progress into its record from time to time, so this reads a listing, the records of
the runs that go on, and two small files for the lease of each one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from curation.flow import STAGES
from curation.store.run_log import find_run, read_record, run_paths
from curation.store.run_record import FOLDER, RUNNING_SUFFIX, RunRecord
from curation.store.step_log import EXPIRY_S, Entry, StepLog
from curation.store.store import Store, in_parallel

MAX_RUNNING = 32
"""Records of runs without an end that are read, the latest first. Killed runs leave such records."""

StatusState = Literal["running", "waiting", "silent", "finished", "failed", "stopped"]


@dataclass(frozen=True)
class LeaseHolder:
    """Who holds the lease of a step.

    Attributes:
        run: name of the run.
        process: number of its process.
        host: name of its machine.
        since: time in UTC, ISO 8601.
    """

    run: str
    process: int
    host: str
    since: str


@dataclass(frozen=True)
class RunStatus:
    """A run as others see it.

    Attributes:
        record: its record.
        silent_s: seconds since it wrote its record, by the clock of this machine; None if it has ended.
        lease: who holds the lease of the step that the run works on, or waits for.
    """

    record: RunRecord
    silent_s: float | None = None
    lease: LeaseHolder | None = None

    @property
    def state(self) -> StatusState:
        """What the run does.

        `waiting`: another run holds the lease. `silent`: it gave no sign of life for a minute, and its
        process is not of this machine. `stopped`: its process has ended without saying why.
        """
        state = self.record.current_state
        if state != "running":
            return state
        if self.silent_s is not None and self.silent_s >= EXPIRY_S:
            return "silent"
        is_other = self.lease is not None and self.lease.run != self.record.run
        return "waiting" if is_other else "running"

    @property
    def seconds(self) -> float:
        """How long the run took, or takes so far."""
        return round(self.record.seconds + (self.silent_s or 0.0), 1)

    @property
    def waiting_stages(self) -> list[str]:
        """The stages that it has still to run, in order."""
        done = {*self.record.stages, self.record.progress.stage if self.record.progress else ""}
        return [s for s in STAGES if s in self.record.planned.values() and s not in done]

    def outcomes(self) -> dict[str, Mapping[str, int]]:
        """Return the rows by `ok` or reason of each stage that ended or works, in order."""
        progress = self.record.progress
        known = dict(self.record.outcomes)
        if progress is not None and progress.counts is not None:
            known[progress.stage] = progress.counts.outcomes
        # The file of a run has the stages in the order of the alphabet.
        ordered = [stage for stage in STAGES if stage in known]
        return {stage: known[stage] for stage in ordered if known[stage]}

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        record = self.record
        holder = record.holder
        return {
            "run": record.run,
            "recipe": record.recipe,
            "state": self.state,
            "started": record.started,
            "seconds": self.seconds,
            "updated": record.updated,
            "silent_s": self.silent_s,
            "process": holder.pid if holder else None,
            "host": holder.host if holder else None,
            "progress": None if record.progress is None else asdict(record.progress),
            "stages": [
                {
                    "stage": stage,
                    "rows": record.rows[stage],
                    "seconds": record.stage_seconds.get(stage),
                }
                for stage in record.stages
            ],
            "waiting_stages": self.waiting_stages,
            "outcomes": {stage: dict(rows) for stage, rows in self.outcomes().items()},
            "lease": None if self.lease is None else asdict(self.lease),
            "error": record.error or None,
        }


def read_status(store: Store, run: str | None = None) -> list[RunStatus]:
    """Return the runs that go on, the latest first; if there are none, the latest run.

    Runs whose process has ended without a word count only if no run started later. Nothing is written.

    Args:
        store: where the runs are.
        run: this run alone, or the beginning of its name.

    Raises:
        StoreError: there is no such run.
    """
    if run is not None:
        return [_status(store, find_run(store, run))]
    paths = list(run_paths(store.storage.files(FOLDER)).values())
    # Usually the first; one that is damaged does not hide those before it.
    latest = next(filter(None, (read_record(store, path) for path in paths)), None)
    others = [path for path in paths[1:] if path.endswith(RUNNING_SUFFIX)][:MAX_RUNNING]
    records = [latest, *in_parallel(lambda path: read_record(store, path), others)]
    known = list({record.run: record for record in records if record is not None}.values())
    working = [record for record in known if record.current_state == "running"]
    return in_parallel(lambda record: _status(store, record), working or known[:1])


def _status(store: Store, record: RunRecord) -> RunStatus:
    if record.state != "running":
        return RunStatus(record)
    lease = None
    if record.progress is not None:
        lease = _holder(StepLog(store, record.progress.step).latest())
    return RunStatus(record, _age(record), lease)


def _holder(entry: Entry) -> LeaseHolder | None:
    if entry.kind != "lease" or entry.holder is None:
        return None
    return LeaseHolder(entry.holder.run, entry.holder.pid, entry.holder.host, entry.time)


def _age(record: RunRecord) -> float:
    written = datetime.fromisoformat(record.updated or record.started)
    return max(0.0, round((datetime.now(UTC) - written).total_seconds(), 1))
