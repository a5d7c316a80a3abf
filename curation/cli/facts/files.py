"""What `verify-store`, `gc`, `forget`, `versions` and `path` print with --json."""

from __future__ import annotations

from curation.cli.facts.base import Facts


class DamagedFile(Facts):
    """A file that is missing, damaged, or cannot be read."""

    path: str
    """Path of the file within the store."""
    problem: str
    """What is wrong."""
    table: str
    """Its table, or folder of work tables; empty if it belongs to none."""
    versions: list[str]
    """Versions of the table that name the file."""
    fragments: list[str]
    """Fragments that it is part of."""
    recipe: str
    """Recipe of the latest run that has one of the versions; empty if there is none."""
    to_set_aside: list[str]
    """Paths to rename, so that running the recipe again reuses none of them."""
    set_aside: list[str]
    """Their new paths, if that was done."""
    remedy: str
    """The commands that mend it."""


class Tally(Facts):
    """Files that stay, and files that go."""

    kept_files: int
    """Files that stay."""
    kept_bytes: int
    """Their bytes."""
    removed_files: int
    """Files that are removed."""
    removed_bytes: int
    """Their bytes."""


class Collected(Facts):
    """Of `gc`."""

    dry_run: bool
    """Whether nothing was removed."""
    kept: dict[str, str]
    """Why each run that is kept stays."""
    removed: list[str]
    """Runs that are removed."""
    tallies: dict[str, Tally]
    """Files and bytes by table, and by the other parts of the store."""
    taken_down: dict[str, int]
    """Files with what was taken down that are removed, by table."""
    left: dict[str, int]
    """Such files that stay until their recipe has run again, by table."""


class OptOutsTakenDown(Facts):
    """What `forget --opt-outs` found."""

    pictures: int
    """Stored pictures that have been withheld by opt-outs for long enough; they are taken down."""
    waiting: int
    """Pictures that are withheld, but not for so long; they stay."""
    in_use: dict[str, int]
    """Pictures that stay because the latest run of a recipe has them, by recipe."""


class CopiesTakenDown(Facts):
    """Copies of a picture by the vectors of one encoder."""

    encoder: str
    """Name of the encoder."""
    images: int
    """Stored pictures that are copies."""
    compared: int
    """Stored pictures whose pixels were compared."""
    others: int
    """Rows with a vector that are no copies."""
    at_least: float
    """Cosine from which on later pictures count as copies."""


class Forgotten(Facts):
    """Of `forget`."""

    tombstone: str | None = None
    """Name of the tombstone; null if there was nothing to take down, and with `--dry-run`."""
    rows: dict[str, int] = {}
    """Rows in all files that are taken down, now or before, by table. With `--dry-run`, rows that the
    options name, of the tables that have URLs, checksums or hashes."""
    hosts: dict[str, int] = {}
    """Hosts of the store that `--host` or `--list` takes down, with their rows in `pairs`."""
    files: int = 0
    """Files with such rows."""
    reports_deleted: int = 0
    """Reports that were deleted."""
    folders_closed: list[str] = []
    """Iceberg folders that no reader opens any more."""
    stages_at_work: list[str] = []
    """Stages that runs work on: gc searches again once they have ended."""
    copies: list[CopiesTakenDown] = []
    """With `--like`, what copy descriptors found, for each picture and encoder."""
    opt_outs: OptOutsTakenDown | None = None
    """With `--opt-outs`, what it found."""


class Proof(Facts):
    """Of `forget --prove`; the exit status is 1 if it does not hold."""

    holds: bool
    """Whether nothing is left, and everything could be decoded."""
    files: dict[str, int]
    """Files that were decoded, by kind."""
    rows: int
    """Rows that were decoded."""
    left: dict[str, int]
    """What is left: rows or mentions, by file."""
    unreadable: list[str]
    """Files that could not be decoded."""
    hashes: dict[str, int]
    """Keyed hashes in the tombstones, by kind."""


class Version(Facts):
    """A version of a table."""

    version: str
    """Its name."""
    created: str
    """When it was written, in UTC."""
    stage: str
    """Stage that wrote it."""
    rows: int
    """Its rows."""
    fragments: int
    """Its fragments."""
    runs: list[str]
    """Runs that have it, the latest first."""


class TablePaths(Facts):
    """Of `path`."""

    table: str
    """Name of the table."""
    version: str
    """Version of the table."""
    folder: str | None
    """With `--dir`, the folder by which other programs open it."""
    files: list[str]
    """Without `--dir`, the addresses of its Parquet files."""
