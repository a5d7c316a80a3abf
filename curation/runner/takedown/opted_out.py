"""Finds stored pictures whose hosts have withheld them since."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from curation.engine.table import open_table
from curation.errors import StoreError
from curation.media.web.opt_outs.signals import is_opt_out
from curation.media.web.urls import InvalidURLError, normalize
from curation.progress import ProgressBar
from curation.store.fragment import Fragment
from curation.store.run_log import read_runs
from curation.store.run_record import RunRecord
from curation.store.store import Store
from curation.store.tombstones import IMAGE_ID_DIGITS
from curation.store.url_hosts import without_scheme

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

IMAGES = "images"
_SCHEME = "http://"
_COLUMNS = ("url", "sha256", "status", "reason")
Fragments = dict[tuple[str, ...], Fragment]
"""Fragments by the paths of their files."""


@dataclass(frozen=True)
class OptedOut:
    """Stored pictures that were withheld later.

    Attributes:
        urls: of pictures that every run since the moment withholds.
        images: image_ids of such pictures in files, which have no URL.
        waiting: number of pictures that were not withheld yet at that moment.
        in_use: number of pictures that the latest run of another recipe has, by its name.
    """

    urls: tuple[str, ...]
    images: tuple[str, ...]
    waiting: int
    in_use: dict[str, int]

    @property
    def pictures(self) -> int:
        """Number of pictures that every run since the moment withholds."""
        return len(self.urls) + len(self.images)


def opted_out(store: Store, since: str) -> OptedOut:
    """Return the stored pictures that an opt-out withholds now, and in every run since a moment.

    Only runs that the store still has count. Where a row failed for another cause, the run before it
    decides. If a latest run of any recipe has a picture, the picture stays.

    Pictures are known by their URL, and those in files without one by their bytes.

    Memory: about 200 bytes for each picture that is withheld.

    Args:
        store: the store.
        since: the moment: time in UTC, ISO 8601.

    Raises:
        StoreError: no run has a table `images`, or a file is damaged.
    """
    runs = _runs_by_recipe(store)
    if not runs:
        raise StoreError(
            f"No run of {store.uri} has a table {IMAGES}",
            fix="Run a recipe with it first",
        )
    withheld: dict[str, str] = {}
    for records in runs.values():
        for picture, started in _withheld(store, records).items():
            withheld[picture] = max(started, withheld.get(picture, started))
    latest = {name: _fragments(store, records[-1:]) for name, records in runs.items()}
    in_use = {name: _stored(each.values(), withheld, name) for name, each in latest.items()}
    every = _fragments(store, (r for records in runs.values() for r in records))
    old = _stored(every.values(), withheld, "older runs") - set[str]().union(*in_use.values())
    gone = sorted(picture for picture in old if withheld[picture] <= since)
    return OptedOut(
        tuple(picture for picture in gone if _is_url(picture)),
        tuple(picture for picture in gone if not _is_url(picture)),
        len(old) - len(gone),
        {name: len(pictures) for name, pictures in in_use.items() if pictures},
    )


def _runs_by_recipe(store: Store) -> dict[str, list[RunRecord]]:
    """Return the runs with a table `images` by the name of the recipe, the first one first."""
    runs: defaultdict[str, list[RunRecord]] = defaultdict(list)
    for record in read_runs(store):
        if IMAGES in record.tables:
            runs[record.recipe].insert(0, record)
    return runs


def _fragments(store: Store, records: Iterable[RunRecord]) -> Fragments:
    fragments: Fragments = {}
    for version in dict.fromkeys(record.tables[IMAGES] for record in records):
        table = open_table(store, IMAGES, version)
        for record in table.manifest.fragments:
            fragments[tuple(f.path for f in record.files)] = table.fragments[record.name]
    return fragments


def _withheld(store: Store, records: list[RunRecord]) -> dict[str, str]:
    """Return since which run of a recipe each picture is withheld, without those that it has again."""
    since: dict[str, str] = {}
    before: Fragments = {}
    with ProgressBar(f"find opt-outs of {records[0].recipe}", len(records)) as bar:
        for done, record in enumerate(records, 1):
            fragments = _fragments(store, [record])
            for paths in fragments.keys() - before.keys():
                for picture, is_withheld in _answers(fragments[paths]):
                    if is_withheld:
                        since.setdefault(picture, record.started)
                    else:
                        since.pop(picture, None)
            before = fragments
            bar.set_done(done)
    return since


def _stored(fragments: Iterable[Fragment], withheld: dict[str, str], label: str) -> set[str]:
    """Return those of the withheld pictures that a fragment has."""
    stored: set[str] = set()
    listed = list(fragments)
    with ProgressBar(f"find pictures of {label}", len(listed)) as bar:
        for done, fragment in enumerate(listed, 1):
            stored |= {
                each for each, is_out in _answers(fragment) if not is_out and each in withheld
            }
            bar.set_done(done)
    return stored


def _answers(fragment: Fragment) -> Iterator[tuple[str, bool]]:
    """Yield names of the pictures that were stored or withheld, and whether they were withheld.

    A stored picture has all its names: what has it under one of them keeps it.
    """
    for batch in fragment.batches(_COLUMNS):
        for row in batch.to_pylist():
            is_withheld = is_opt_out(row["reason"] or "")
            if is_withheld or row["status"] == "ok":
                names = _names(row["url"], row["sha256"])
                yield from ((name, is_withheld) for name in names[: 1 if is_withheld else 2])


def _is_url(picture: str) -> bool:
    return picture.startswith(_SCHEME)


def _names(url: str | None, sha256: str | None) -> list[str]:
    """Return the names of a picture in tombstones, the one by which it is taken down first.

    These are its URL in its normal form, with http for https, if it has one, and its image_id.
    """
    names = []
    if url is not None:
        with suppress(InvalidURLError):
            names.append(f"{_SCHEME}{without_scheme(normalize(url))}")
    return names if sha256 is None else [*names, sha256[:IMAGE_ID_DIGITS]]
