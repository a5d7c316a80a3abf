"""What `show`, `search`, `diff`, `opt-outs`, `train-filter` and `audit dedup` print with --json."""

from __future__ import annotations

from typing import Any

from curation.cli.facts.base import Facts


class ShownTable(Facts):
    """Of `show`."""

    table: str
    """Name of the table."""
    grain: str
    """What one row is."""
    version: str
    """Version of the table."""
    created: str
    """When it was written, in UTC."""
    stage: str
    """Stage that wrote it."""
    rows: int
    """Its rows."""
    taken_down: bool
    """Whether some of the rows were taken down since: all counts have them, and readers get none."""
    fragments: int
    """Its fragments."""
    counts: dict[str, dict[str, int]]
    """Rows by role, and by `ok` or reason."""
    stats: dict[str, Any]
    """What the stage measured."""
    libraries: dict[str, str]
    """Libraries that computed it, with their versions."""
    folder: str | None
    """Folder by which other programs open it; null if there is none."""
    open_with: str | None
    """How DuckDB opens that folder."""
    sample: list[dict[str, Any]]
    """The first rows; bytes stand as `{"bytes": NUMBER}`."""


class NearImage(Facts):
    """An image that is near a query."""

    query: int
    """Number of the query, from 0."""
    rank: int
    """Place among the images of the query, from 1."""
    similarity: float
    """Cosine similarity. Vectors are stored as float16, so that of an image with itself is within 0.001
    of 1."""
    image_id: str
    """Identity of the image."""
    role: str
    """Role of its source."""
    source: str
    """Its source."""
    url: str | None
    """Where it is from."""
    location: str | None
    """Its file, if it is not from the web."""
    caption: str | None
    """Its caption."""
    arms: list[str]
    """Arms that claim it."""


class Search(Facts):
    """Of `search`."""

    index: str
    """How the images were searched."""
    queries: list[str]
    """The queries by number."""
    images: list[NearImage]
    """The nearest images of each query, the nearest first; empty with `--out` or `--html`."""
    written: list[str]
    """Files that were written: with `--out` Parquet, with `--html` a page."""


class ComparedDataset(Facts):
    """One of two datasets."""

    dataset: str
    """As the command line names it."""
    version: str
    """Its version."""
    rows: int
    """Its images."""


class Change(Facts):
    """Images that differ alike."""

    change: str
    """How they differ."""
    reason: str
    """Why the other dataset lacks them; empty if it does not."""
    images: int
    """How many there are."""


class Difference(Facts):
    """Of `diff`."""

    before: ComparedDataset
    """The first dataset."""
    after: ComparedDataset
    """The second dataset."""
    changes: list[Change]
    """The images that differ, by change and reason."""
    written: str | None
    """With `--out`, the Parquet file with one row for each of them."""


class OptOuts(Facts):
    """Of `opt-outs`."""

    rows: int
    """Pictures of the table."""
    withheld: int
    """Pictures that are withheld by an opt-out."""
    licensed: int
    """Stored pictures whose hosts name a licence (RSL)."""
    signals: dict[str, int]
    """Pictures by signal, the most frequent first."""
    hosts: dict[str, dict[str, int]]
    """Pictures by host and signal, for as many hosts as `--hosts` says."""
    examples: dict[str, list[dict[str, str]]]
    """Texts of opt-outs, and where they stood, by signal."""


class TrainedHead(Facts):
    """Of `train-filter`."""

    images: int
    """Labelled images that have a vector."""
    wanted: int
    """How many of them are labelled 1."""
    without_vector: int
    """Labelled images that have no vector, and are left out."""
    test_images: int
    """Images of the test set."""
    roc_auc: float
    """Area under the ROC curve on the test set."""
    average_precision: float
    """Average precision on the test set."""
    head: dict[str, str]
    """What to add to `score.heads` of a recipe, under a name."""


class AuditSummary(Facts):
    """What an audit found, as in audit.json."""

    recipe: str
    """Name of the recipe."""
    store: str
    """Address of the store."""
    tables: dict[str, str]
    """Versions of the tables that were read."""
    seed: int
    """Seed of the sample and of the edits."""
    levels: dict[str, dict[str, Any]]
    """Levels of dedup that were audited, with their parameters."""
    not_audited: list[str]
    """Levels that were not audited."""
    sample: dict[str, Any]
    """Originals: requested, taken, of how many rows, undecodable, with a hash or vector by level."""
    copies: dict[str, Any]
    """Edited copies: injected, and refused by reason."""
    verify: dict[str, Any] | None
    """What `dedup.verify` did; null if the recipe does not verify."""
    recall: dict[str, Any]
    """Shares of copies that each level finds: over all, by strength, by edit."""
    pairs_with_others: dict[str, dict[str, int]]
    """Pairs of originals and other images of the pool, by level."""
    thresholds: dict[str, Any]
    """By level: recall and pairs at each threshold, and the threshold that is suggested."""
    originals: list[dict[str, Any]]
    """Pairs of each original with other images of the pool, by level."""


class Audit(Facts):
    """Of `audit dedup`."""

    summary: AuditSummary
    """What was found."""
    files: list[str]
    """The files that were written."""
