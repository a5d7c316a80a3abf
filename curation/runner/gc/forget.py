"""Takes rows down: writes a tombstone, searches the store, and closes what other programs open."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from curation.engine.iceberg import close, published
from curation.errors import RecipeError
from curation.media.pictures.likeness import likeness
from curation.media.web.host_names import canonical_host
from curation.media.web.urls import InvalidURLError, normalize
from curation.runner.gc.step_logs import read_logs, stages_at_work, time_of_storage
from curation.runner.takedown.search import search_store
from curation.runner.takedown.texts import mentions
from curation.store.holder import this_process
from curation.store.removal import GC, removal_log
from curation.store.reports import FOLDER as REPORTS
from curation.store.reports import version_of_report
from curation.store.run_log import read_runs
from curation.store.step_log import Waiting, hold
from curation.store.store import DATASET, Store
from curation.store.tombstones import (
    IMAGE_ID_DIGITS,
    Hits,
    Kind,
    Likeness,
    Takedowns,
    Tombstone,
    new_name,
    open_takedowns,
    put_tombstone,
    sorted_hashes,
    without_scheme,
)
from curation.store.withheld import VersionsWithFiles

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

SHA256_DIGITS = 64
MAX_LINES_NAMED = 10


@dataclass(frozen=True)
class Request:
    """What somebody asks to take down.

    Attributes:
        urls: of pictures; the scheme makes no difference.
        hosts: with all their subdomains.
        images: SHA-256 of the original bytes, or image_ids.
        likes: pictures; what looks like one is taken down.
        within: bits of 256 in which the perceptual hash of a picture like it may differ.
        by: who asks.
        reason: why.
    """

    urls: Sequence[str] = ()
    hosts: Sequence[str] = ()
    images: Sequence[str] = ()
    likes: Sequence[Path] = ()
    within: int = 24
    by: str = ""
    reason: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it names nothing to take down."""
        return not (self.urls or self.hosts or self.images or self.likes)


@dataclass(frozen=True)
class Forgotten:
    """What `forget` did.

    Attributes:
        tombstone: the tombstone.
        hits: what was found in the store.
        reports: number of reports that were deleted.
        closed: folders by which other programs opened a table with some of it; the next run opens them.
        working: stages that runs work on, which may write some of it still.
    """

    tombstone: Tombstone
    hits: Hits
    reports: int
    closed: tuple[str, ...]
    working: tuple[str, ...]


def forget(store: Store, request: Request, waiting: Waiting | None = None) -> Forgotten:
    """Take rows down. From the moment at which the tombstone is written, no reader gets them.

    Raises:
        RecipeError: something that is named has no valid form, or nothing is named.
        LeaseError: gc is at work, and `waiting.wait` is False; the tombstone is in force.
    """
    takedowns = open_takedowns(store.storage)
    tombstone = _tombstone(request, takedowns)
    put_tombstone(store.storage, tombstone)
    hits, working = search_again(store, waiting or Waiting())
    return Forgotten(
        tombstone, hits, delete_reports(store), close_folders(store), tuple(sorted(working))
    )


def search_again(store: Store, waiting: Waiting) -> tuple[Hits, set[str]]:
    """Search the store for all tombstones, while no run starts a step.

    Returns:
        What was found, and the stages that runs work on.

    Raises:
        LeaseError: gc is at work, and `waiting.wait` is False.
    """
    holder = this_process(f"{GC}-{uuid.uuid4().hex[:6]}")
    with hold(removal_log(store), holder, GC, {}, waiting) as lease:
        since = time_of_storage(store, lease)
        working = stages_at_work(read_logs(store, since))
        takedowns = store.takedowns(again=True)
        assert takedowns is not None
        return search_store(store, takedowns, since, working), working


def delete_reports(store: Store) -> int:
    """Delete the reports of all versions of the dataset but those of runs without withheld tables."""
    withheld = VersionsWithFiles(store, store.withheld_files())
    clean: set[str] = set()
    other: set[str] = set()
    for record in read_runs(store):
        if DATASET in record.tables:
            versions = other if withheld.has_any(record.tables) else clean
            versions.add(record.tables[DATASET])
    deleted = 0
    for folder in store.storage.folders(REPORTS):
        # Runs with the same dataset may differ in the other tables.
        if version_of_report(folder) not in clean - other:
            paths = store.storage.files(f"{REPORTS}/{folder}", recursive=True)
            store.storage.delete(paths)
            deleted += 1
    return deleted


def close_folders(store: Store) -> tuple[str, ...]:
    """Delete the Iceberg metadata that opens a version with withheld rows; return the folders.

    Programs that read Parquet files by it would get these rows.
    """
    withheld = VersionsWithFiles(store, store.withheld_files())
    return tuple(
        close(store, opened.recipe, opened.table)
        for opened in list(published(store))
        if withheld.has(opened.table, opened.version)
    )


def _tombstone(request: Request, takedowns: Takedowns) -> Tombstone:
    named: dict[Kind, list[str]] = {
        "url": _each(request.urls, _url, "--url"),
        "host": _each(request.hosts, _host, "--host"),
        "image": _each(request.images, _image, "--sha256 or --image-id"),
    }
    likes = tuple(_like(path, request.within) for path in request.likes)
    if request.is_empty:
        raise RecipeError(
            "Name what to take down: --url, --host, --sha256, --image-id, --like, --list or --opt-outs."
        )
    for option, text in (("--by", request.by), ("--reason", request.reason)):
        if not text.strip():
            raise RecipeError(
                f"{option} is empty",
                fix="Say it in words: it stays in the record",
            )
    hashes: dict[str, tuple[str, ...]] = {
        kind: sorted_hashes(takedowns, kind, values) for kind, values in named.items()
    }
    time = datetime.now(UTC).isoformat(timespec="seconds")
    unsigned = Tombstone(new_name(), time, request.by, request.reason, hashes, likes)
    _check_words(unsigned, takedowns)
    return replace(unsigned, signature=takedowns.sign(asdict(unsigned)))


def _check_words(tombstone: Tombstone, takedowns: Takedowns) -> None:
    """Check that the reason does not keep what is taken down."""
    alone = Takedowns(takedowns.key, (tombstone,))
    if mentions(f"{tombstone.by} {tombstone.reason}", alone):
        raise RecipeError(
            "--reason or --by holds what is to be taken down, and they stay in the store",
            fix="Describe it in other words, such as the number of the request",
        )


def _each(values: Sequence[str], read: Callable[[str], str], option: str) -> list[str]:
    wrong, good = [], []
    for value in values:
        try:
            good.append(read(value))
        except ValueError as error:
            wrong.append(f"{value[:200]!r} ({error})")
    if wrong:
        more = f" and {len(wrong) - MAX_LINES_NAMED} more" if wrong[MAX_LINES_NAMED:] else ""
        raise RecipeError(
            f"{option}: {', '.join(wrong[:MAX_LINES_NAMED])}{more}. Nothing was taken down. Valid are: "
            "an http or https URL; a host name or an address; 64 hex digits of a SHA-256, or 32 of an "
            "image_id."
        )
    return good


def _url(text: str) -> str:
    try:
        return without_scheme(normalize(text))
    except InvalidURLError as error:
        raise ValueError(error.reason) from error


def _host(text: str) -> str:
    if "/" in text or not text.strip():
        raise ValueError("it is no host")
    return canonical_host(text.strip().lower())


def _image(text: str) -> str:
    digits = text.strip().lower()
    is_hex = not set(digits) - set("0123456789abcdef")
    if not is_hex or len(digits) not in (IMAGE_ID_DIGITS, SHA256_DIGITS):
        raise ValueError("it is neither a SHA-256 nor an image_id")
    return digits[:IMAGE_ID_DIGITS]


def _like(path: Path, within: int) -> Likeness:
    try:
        look = likeness(path.read_bytes(), within)
    except OSError as error:
        raise RecipeError(f"--like: {path} cannot be read ({error}).") from error
    if look is None:
        raise RecipeError(
            f"--like: {path} is no picture, or it is so plain that all plain pictures would "
            "be like it",
            fix="Give a JPEG, PNG or WebP with some contrast, or take it down by --sha256",
        )
    return look


def read_list(path: Path, request: Request) -> Request:
    """Return a request with what a file names, one in each line: a URL, SHA-256, image_id or host.

    Raises:
        RecipeError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise RecipeError(f"--list: {path} cannot be read as UTF-8 text ({error}).") from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    urls = [line for line in lines if "://" in line]
    images = [
        line for line in lines if len(line) in (IMAGE_ID_DIGITS, SHA256_DIGITS) and _hex(line)
    ]
    hosts = [line for line in lines if line not in {*urls, *images}]
    return replace(
        request,
        urls=[*request.urls, *urls],
        images=[*request.images, *images],
        hosts=[*request.hosts, *hosts],
    )


def _hex(text: str) -> bool:
    return not set(text.lower()) - set("0123456789abcdef")
