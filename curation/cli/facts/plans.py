"""What `plan`, `calibrate`, `weights` and `plugins` print with --json."""

from __future__ import annotations

from curation.cli.facts.base import Facts


class PlannedStep(Facts):
    """A stage of a recipe."""

    stage: str
    """Name of the stage."""
    number: int
    """Number of its job and of its table's contract."""
    kind: str
    """`map` works fragment by fragment, `global` on whole tables."""
    upstream: list[str]
    """Stages whose tables it reads."""
    reads: list[str]
    """Tables that it reads."""
    tables: list[str]
    """Tables that it writes."""
    job: str
    """Job for spark-submit that runs it."""
    gpus: int
    """GPUs that a task of it uses."""
    fingerprint: str
    """Digest of everything that decides its rows."""


class ExpectedArm(Facts):
    """What an arm is expected to add; null is unknown."""

    arm: str
    """Name of the arm."""
    seed_set: str | None
    """Source of its seeds."""
    strategy: str
    """How it retrieves."""
    images: int | None
    """Images of the seed set, as the recipe declares them."""
    retrieved: int | None
    """Claims before its cap; an image counts once for each."""
    final: int | None
    """Claims that it adds; an image counts once for each."""


class Plan(Facts):
    """Of `plan`."""

    recipe: str
    """Name of the recipe."""
    run: str
    """Fingerprint of the runs of the recipe."""
    steps: list[PlannedStep]
    """The stages in order."""
    left_out: list[str]
    """What the recipe leaves out because its sources do not have it, a sentence each."""
    composition: list[ExpectedArm]
    """What each arm is expected to add."""
    total_images: int | None
    """Sum of `final`, where an image counts once for each claim; null if it is unknown for an arm."""


class StageCost(Facts):
    """What a stage costs."""

    stage: str
    """Name of the stage."""
    rows: float
    """Rows that it works on."""
    stored_bytes: float
    """Bytes that it stores."""
    moved_bytes: float
    """Bytes that tasks read beyond their own fragments."""
    received_bytes: float
    """Bytes that come over the network."""
    flop: float
    """Floating-point operations."""
    device: str
    """Where its models and products of vectors are planned: `GPU`, `CPU`, or empty without any."""
    driver_bytes: float
    """Memory that the driver needs."""
    cpu_hours: float
    """Hours of one core that is always busy."""
    gpu_hours: float
    """Hours of one GPU that is always busy."""
    money: float
    """Price, in the currency of `prices`."""


class EncoderCost(Facts):
    """What an encoder costs."""

    dim: int
    """Dimensions of a vector."""
    flop: float
    """Floating-point operations per image."""


class SearchCost(Facts):
    """What a way to search the pool costs: quantise, index and match together."""

    cpu_hours: float
    """Hours of one core that is always busy."""
    gpu_hours: float
    """Hours of one GPU that is always busy."""
    money: float
    """Price, in the currency of `prices`."""


class PlanCost(Facts):
    """Of `plan --cost`."""

    stages: list[StageCost]
    """The stages in order."""
    searches: dict[str, SearchCost]
    """Exact search and an index, by the name that `match.index` has for it; empty if no arm needs
    neighbours."""
    money: float
    """Sum of the prices."""
    encoders: dict[str, EncoderCost]
    """The encoders by name."""
    assumptions: dict[str, float]
    """What only the data can show, as `--assume` changes it."""
    rates: dict[str, float | str | None]
    """What one core or GPU does in a second."""
    prices: dict[str, float | str]
    """Prices in their currency."""


class MeasuredRates(Facts):
    """Of `calibrate`."""

    path: str
    """The YAML file that the rates were written to."""
    rates: dict[str, float | str | None]
    """What one core or GPU of this machine does in a second, and the machine."""


class NeededFile(Facts):
    """Something that a recipe needs."""

    place: str
    """Key of the recipe that names it."""
    what: str
    """Its path, or the name of a model."""
    state: str
    """Whether it is there, in words."""
    problem: str | None
    """Why a run would fail without it, and how to mend that; null if it would not."""


class Member(Facts):
    """Something that a recipe may name."""

    kind: str
    """`filter`, `head`, `encoder` or `strategy`."""
    name: str
    """Its name in a recipe."""
    module: str
    """Python module that has it."""
    version: int | str
    """Part of the memos of what was computed by it."""


class Members(Facts):
    """Of `plugins`."""

    members: list[Member]
    """What a recipe may name, with that of the plug-ins."""
    installed: list[str]
    """Names of the plug-ins that installed packages offer."""
