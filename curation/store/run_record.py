"""The record of a run: what the store knows of it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from curation.activity import Progress
from curation.store.holder import Holder, this_process

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

FORMAT = 1
FOLDER = "runs"
_TIME = "%Y%m%dT%H%M%S.%fZ"
"""The time in the name of a run."""
_TICK = timedelta(microseconds=1)
_NAME = re.compile(r"(\d{8}T\d{6}\.\d{6}Z)-")
SUFFIX, RUNNING_SUFFIX = ".json", ".running.json"

State = Literal["running", "finished", "failed", "stopped"]
"""`stopped`: the process ended without saying why."""


@dataclass(frozen=True)
class RunRecord:
    """What the store knows of a run.

    Attributes:
        run: its name: the time of its start, and a few random digits.
        recipe: name of the recipe.
        fingerprint: of the recipe's run (`curation.flow.run_fingerprint`).
        state: what became of it.
        started: time in UTC, ISO 8601.
        seconds: how long it took, up to the last step that ended.
        stages: the stages that it ran, in order.
        rows: number of rows of the tables of each stage that it ran.
        outcomes: number of rows of each of these stages by `ok` or reason, where it counts them.
        stage_seconds: how long each of these stages took.
        tables: the version of each table that it made or used.
        steps: fingerprint of the step that wrote each table.
        holder: the process.
        planned: the stages that it will run or has run, by the fingerprint of the step. A step that
            only wrote what these read has the stage "".
        restored_from: the run that it repeats, if it was made by `curation restore`.
        progress: how far it was when the record was written; None where no stage works.
        updated: time of the last write in UTC, ISO 8601.
        error: why it failed.
    """

    run: str
    recipe: str
    fingerprint: str
    state: State = "running"
    started: str = ""
    seconds: float = 0.0
    stages: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    steps: Mapping[str, str] = field(default_factory=dict)
    holder: Holder | None = None
    planned: Mapping[str, str] = field(default_factory=dict)
    restored_from: str | None = None
    progress: Progress | None = None
    updated: str = ""
    error: str = ""

    @property
    def path(self) -> str:
        """Path of its file within the store."""
        return f"{FOLDER}/{self.run}{RUNNING_SUFFIX if self.state == 'running' else SUFFIX}"

    @property
    def current_state(self) -> State:
        """The state; `stopped` instead of `running` if the process is known to have ended."""
        ended = self.holder is not None and self.holder.has_ended
        return "stopped" if self.state == "running" and ended else self.state

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return asdict(self) | {"format": FORMAT}


_TYPES = TypeAdapter(RunRecord)


def new_run(
    recipe: str,
    fingerprint: str,
    planned: Mapping[str, str] | None = None,
    earlier: Iterable[str] = (),
) -> RunRecord:
    """Return the record of a run that starts now.

    Args:
        recipe: name of the recipe.
        fingerprint: of the recipe's run.
        planned: see `RunRecord`.
        earlier: names of the runs that the store has. Names tell which run started last, so the new one
            comes after them, although the clock of another machine may be ahead of the one here.
    """
    now = datetime.now(UTC)
    stamp = f"{now:{_TIME}}"
    times = (match[1] for match in map(_NAME.match, earlier) if match)
    later = (_following(time) for time in times if time >= stamp)
    run = f"{max([stamp, *later])}-{uuid.uuid4().hex[:6]}"
    started = now.isoformat(timespec="seconds")
    holder = this_process(run)
    return RunRecord(
        run, recipe, fingerprint, started=started, holder=holder, planned=planned or {}
    )


def _following(stamp: str) -> str:
    """Return the next time stamp for the name of a run; empty if `stamp` is not valid."""
    try:
        return f"{datetime.strptime(stamp, _TIME).replace(tzinfo=UTC) + _TICK:{_TIME}}"
    except (ValueError, OverflowError):
        return ""


def parse_record(spec: Any) -> RunRecord | None:
    """Return the record that `to_json` described, or None if it is not one."""
    if not isinstance(spec, dict) or spec.get("format") != FORMAT:
        return None
    known = {name: value for name, value in spec.items() if name != "format"}
    try:
        checked = _TYPES.validate_python(known)
        if not checked.rows.keys() >= set(checked.stages):
            return None
        holder = None if known["holder"] is None else Holder.from_json(known["holder"])
        progress = Progress.from_json(known.get("progress"))
        stages = tuple(known["stages"])
        return RunRecord(**(known | {"holder": holder, "stages": stages, "progress": progress}))
    except (AttributeError, KeyError, TypeError, ValidationError):
        return None
