"""What `run`, `report`, `runs`, `status`, `restore` and `tag` print with --json."""

from __future__ import annotations

from curation.cli.facts.base import Facts
from curation.cli.facts.files import DamagedFile


class StageSummary(Facts):
    """What a stage of a run did."""

    stage: str
    """Name of the stage."""
    rows: int
    """Rows of its table; the tables of several encoders have the same rows."""
    outcomes: dict[str, int]
    """Rows by the reason for which they were dropped, or by `ok`, and of `select` by `eligible`."""
    seconds: float
    """How long it took."""
    computed: int
    """Fragments that were computed."""
    reused: int
    """Fragments that were taken from earlier runs."""
    tables: dict[str, str]
    """Folder of each table that it wrote; for the dataset, the folder of its version."""
    versions: dict[str, str]
    """Version of each table that it wrote."""


class DatasetSummary(Facts):
    """The dataset of a run."""

    version: str
    """Its version."""
    rows: int
    """Its images."""
    address: str
    """The folder of its Parquet files."""


class RunSummary(Facts):
    """Of `run`."""

    recipe: str
    """Name of the recipe."""
    store: str
    """Address of the store."""
    up_to_date: bool
    """Whether there was nothing to compute."""
    stages: list[StageSummary]
    """The stages in order."""
    shortfalls: dict[str, int]
    """Images that arms lack of what they requested, by arm."""
    dataset: DatasetSummary | None
    """The dataset; null if the run ended before it."""
    report: str | None
    """Address of the HTML report; null if the run ended before it."""
    damaged: list[DamagedFile]
    """Files that `--verify` set aside."""
    log: str | None = None
    """The log file of the run; null if it could not be written."""


class Report(Facts):
    """Of `report`."""

    report: str
    """Address of the HTML report."""


class Run(Facts):
    """A run of a store."""

    run: str
    """Its name."""
    recipe: str
    """Name of the recipe."""
    fingerprint: str
    """Fingerprint of the runs of the recipe."""
    started: str
    """When it began, in UTC."""
    seconds: float
    """How long it took, or has taken."""
    state: str
    """`running`, `finished`, `failed` or `stopped`."""
    stages: list[str]
    """Stages that it finished."""
    rows: dict[str, int]
    """Rows by stage."""
    tables: dict[str, str]
    """Version by table."""
    restored_from: str | None
    """Run whose tables it has, if `restore` made it."""


class WorkCounts(Facts):
    """How far some work is."""

    done: int
    """Finished items."""
    total: int
    """All items of the work."""
    unit: str
    """What the items are, such as `rows`."""
    outcomes: dict[str, int]
    """Finished rows by `ok` or reason, as far as they are known."""
    bytes: int
    """Bytes that were downloaded."""


class Progress(Facts):
    """How far a run is."""

    stage: str
    """Stage that it works on."""
    step: str
    """Fingerprint of that stage's step."""
    stage_seconds: float
    """Seconds since the stage began."""
    part: str
    """Part of the stage that it works on; empty if the work is not counted."""
    counts: WorkCounts | None
    """How far that part is."""
    per_second: float
    """Finished items a second."""
    seconds_left: float | None
    """Seconds until the part ends; null if that is unknown."""


class FinishedStage(Facts):
    """A stage that a run has finished."""

    stage: str
    """Name of the stage."""
    rows: int
    """Rows of its table; the tables of several encoders have the same rows."""
    seconds: float | None
    """How long it took."""


class LeaseHolder(Facts):
    """Who holds the lease of a step."""

    run: str
    """The run."""
    since: str
    """Since when, in UTC."""
    process: int | None
    """Number of its process."""
    host: str
    """Its machine."""


class RunStatus(Facts):
    """What a run does."""

    run: str
    """Its name."""
    recipe: str
    """Name of the recipe."""
    state: str
    """As in `runs`, or `waiting` for another run, or `silent` without a sign of life."""
    started: str
    """When it began, in UTC."""
    seconds: float
    """How long it took, or has taken."""
    updated: str
    """When it wrote its record last."""
    silent_s: float | None
    """Seconds since its last sign of life; null if it has ended."""
    process: int | None
    """Number of its process."""
    host: str | None
    """Its machine."""
    progress: Progress | None
    """How far it is; null where no stage works."""
    stages: list[FinishedStage]
    """Stages that it finished."""
    waiting_stages: list[str]
    """Stages that are to come."""
    outcomes: dict[str, dict[str, int]]
    """Rows by stage, and by `ok` or reason."""
    lease: LeaseHolder | None
    """Who holds the lease of the step that it works on, or waits for."""
    error: str | None
    """Why it failed."""


class Restored(Facts):
    """Of `restore`."""

    run: str
    """The new run that has the tables."""
    restored_from: str | None
    """The run that they are of."""


class Tag(Facts):
    """A name of a run."""

    name: str
    """The tag."""
    run: str
    """The run that it names."""
    created: str
    """When it was given, in UTC."""
