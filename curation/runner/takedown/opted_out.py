"""Finds stored pictures whose hosts have withheld them since."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
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
from curation.store.url_hosts import without_scheme

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

IMAGES = "images"
_COLUMNS = ("url", "status", "reason")
Fragments = dict[tuple[str, ...], Fragment]
"""Fragments by the paths of their files."""


@dataclass(frozen=True)
class OptedOut:
    """Stored pictures that were withheld later.

    Attributes:
        urls: of pictures that every run since the moment withholds.
        waiting: number of pictures that were not withheld yet at that moment.
        in_use: number of pictures that the latest run of another recipe has, by its name.
    """

    urls: tuple[str, ...]
    waiting: int
    in_use: dict[str, int]


def opted_out(store: Store, since: str) -> OptedOut:
    """Return the stored pictures that an opt-out withholds now, and in every run since a moment.

    Only runs that the store still has count. Where a row failed for another cause, the run before it
    decides. If a latest run of any recipe has a picture, the picture stays.

    Memory: about 200 bytes for each URL that is withheld.

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
        for url, started in _withheld(store, records).items():
            withheld[url] = max(started, withheld.get(url, started))
    latest = {name: _fragments(store, records[-1:]) for name, records in runs.items()}
    in_use = {name: _stored(each.values(), withheld, name) for name, each in latest.items()}
    every = _fragments(store, (r for records in runs.values() for r in records))
    old = _stored(every.values(), withheld, "older runs") - set[str]().union(*in_use.values())
    urls = sorted(url for url in old if withheld[url] <= since)
    return OptedOut(
        tuple(urls),
        len(old) - len(urls),
        {name: len(urls) for name, urls in in_use.items() if urls},
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
    """Return since which run of a recipe each URL is withheld, without those that it has again."""
    since: dict[str, str] = {}
    before: Fragments = {}
    with ProgressBar(f"find opt-outs of {records[0].recipe}", len(records)) as bar:
        for done, record in enumerate(records, 1):
            fragments = _fragments(store, [record])
            for paths in fragments.keys() - before.keys():
                for url, is_withheld in _answers(fragments[paths]):
                    if is_withheld:
                        since.setdefault(url, record.started)
                    else:
                        since.pop(url, None)
            before = fragments
            bar.set_done(done)
    return since


def _stored(fragments: Iterable[Fragment], withheld: dict[str, str], label: str) -> set[str]:
    """Return those of the withheld URLs of which a fragment has the picture."""
    stored: set[str] = set()
    listed = list(fragments)
    with ProgressBar(f"find pictures of {label}", len(listed)) as bar:
        for done, fragment in enumerate(listed, 1):
            stored |= {url for url, is_out in _answers(fragment) if not is_out and url in withheld}
            bar.set_done(done)
    return stored


def _answers(fragment: Fragment) -> Iterator[tuple[str, bool]]:
    """Yield the URLs that gave a picture or were withheld, and whether they were withheld."""
    for batch in fragment.batches(_COLUMNS):
        for row in batch.to_pylist():
            is_withheld = is_opt_out(row["reason"] or "")
            url = _identity(row["url"]) if is_withheld or row["status"] == "ok" else None
            if url is not None:
                yield url, is_withheld


def _identity(url: str | None) -> str | None:
    """Return a URL in its normal form, with http for https, as tombstones have it; None for no URL."""
    if url is None:
        return None
    try:
        return f"http://{without_scheme(normalize(url))}"
    except InvalidURLError:
        return None
