"""What check and why print with --json."""

from __future__ import annotations

from typing import Any

from curation.cli.facts.base import Facts
from curation.cli.facts.plans import NeededFile


class CheckedSource(Facts):
    """What is known of a source."""

    name: str
    """Its name."""
    role: str
    """Its role."""
    format: str
    """Its format."""
    files: int
    """Its files."""
    bytes: int
    """Their size."""
    rows: int
    """Its rows."""
    is_exact: bool
    """Whether the rows were counted; otherwise they are estimated."""
    rows_read: int
    """Rows that were read; the numbers below count among them."""
    with_caption: int
    """Rows with a caption."""
    with_url: int
    """Rows with a URL."""
    with_local_image: int
    """Rows whose picture is in the files."""
    bad_rows: int
    """Rows that cannot be read."""


class Sample(Facts):
    """Local pictures that were decoded and scored."""

    pictures: int
    """Their number."""
    failed: dict[str, int]
    """Those that cannot be stored, by reason."""
    stored_bytes: float
    """Mean size of a stored one; 0 without any."""
    scores: list[str]
    """Names of the scores that were computed."""


class Machine(Facts):
    """The machine."""

    java: str
    """Folder of its Java; empty if there is none."""
    java_problem: str
    """Why there is none, and what to do."""
    gpus: list[str]
    """Its GPUs."""
    cores: int
    """Cores that may be used."""
    memory: int
    """Bytes of memory that may be used."""
    disk: int | None
    """Free bytes where the store is; null if it is not on this machine."""
    slow_precisions: dict[str, float]
    """How many times as long a layer takes as in fp32, by precision, where it takes longer."""


class Warned(Facts):
    """Something to know before a run."""

    code: str
    """Its kind."""
    where: str
    """The place in the recipe."""
    text: str
    """What it is."""
    fix: str
    """What to do."""


class Check(Facts):
    """Of `check`."""

    recipe: str
    """Name of the recipe."""
    sources: list[CheckedSource]
    """Its sources."""
    sample: Sample
    """What a sample of local pictures shows."""
    weights: list[NeededFile]
    """What the recipe needs besides its sources."""
    machine: Machine | None
    """This machine; null if it was not measured."""
    estimate: dict[str, float] | None
    """What a run would need: seconds of cores and GPUs, bytes written, memory of the driver; null if
    nobody knows."""
    problems: list[str]
    """Why a run would fail. The exit status is 2 if there are any."""
    warnings: list[Warned]
    """What wastes or surprises."""


class Why(Facts):
    """Of `why`."""

    what: str
    """The argument of the command."""
    kind: str | None
    """What it was taken for; null if the store has nothing of it."""
    recipe: str
    """Name of the recipe."""
    run: str
    """The run whose tables were read."""
    found: int
    """Number of rows that it stands for."""
    rows: list[dict[str, Any]]
    """What each stage made of the first of these rows, by stage."""
    nearest: list[dict[str, Any]]
    """For a picture that is not in the store, the nearest ones that are."""
    note: str
    """What the answer lacks, or is not about, and why."""
