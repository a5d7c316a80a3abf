"""What a run does so that it commits nothing that was taken down."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from curation.errors import StoreError, TakenDownError
from curation.flow import STAGES
from curation.store.manifest import FragmentRecord
from curation.store.step_log import Lease
from curation.store.store import Store
from curation.store.tombstones import Takedowns
from curation.store.withheld import taken_down_since

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

MARGIN_S = 2.0
"""Some storages stamp files with whole seconds."""


def check_written(
    store: Store,
    stage: str,
    lease: Lease,
    before: Takedowns | None,
    written: Sequence[FragmentRecord],
) -> None:
    """Check that a step commits nothing that was taken down since it started, or before.

    Args:
        store: where it works.
        stage: its stage.
        lease: its lease.
        before: what was taken down when it started.
        written: what it would commit. Some may be what an earlier run left that was killed.

    Raises:
        TakenDownError: something was taken down since it started, or vectors show copies of what was.
            What the step wrote of it counts as vanished.
        StoreError: a run that was killed left some of it.
    """
    changed, now = taken_down_since(store, before), store.takedowns()
    if now is None:
        return
    files = {f.path for record in written for f in record.files}
    # Decoders of images are imported below, which most runs do not need.
    if changed:
        from curation.runner.takedown.search import search_files

        search_files(store, now, sorted(files))
        raise TakenDownError(
            f"Rows of {store.uri} were taken down while this step worked, so it was not committed",
            fix="Run the same command again: it reuses what holds none of them",
        )
    since = now.unsearched_since(stage)
    if since is not None:
        until = lease.taken_at() + MARGIN_S
        _check_left(store, now, _written_between(store, files, since - MARGIN_S, until))
    _check_copies(store, now, lease, written)


def _check_left(store: Store, takedowns: Takedowns, files: Collection[str]) -> None:
    """Check files that a run may have left that worked while rows were taken down.

    Raises:
        StoreError: one holds such a row.
    """
    from curation.runner.takedown.search import holds_any, search_files

    if files and holds_any(store, takedowns, sorted(files)):
        search_files(store, takedowns, sorted(files))
        raise StoreError(
            f"A run that worked while rows of {store.uri} were taken down left files with such rows, "
            "so this step was not committed",
            fix="Run curation gc on this store, which removes them, then the same command again",
        )


def _written_between(store: Store, files: Collection[str], first: float, last: float) -> set[str]:
    """Return those of some files that were written between two times of the storage."""
    between: set[str] = set()
    for folder in sorted({path.rsplit("/", 1)[0] for path in files}):
        listed = store.storage.files(folder).items()
        between.update(p for p, s in listed if first < s.modified <= last and p in files)
    return between


def _check_copies(
    store: Store, takedowns: Takedowns, lease: Lease, written: Sequence[FragmentRecord]
) -> None:
    """Check that the vectors that a step would commit are of no copies of what was taken down.

    Raises:
        TakenDownError: some are. Their rows are taken down in the whole store.
    """
    if not takedowns.descriptors:
        return
    from curation.runner.takedown.alike import alike_images, files_with_vectors
    from curation.runner.takedown.close import close_folders, delete_reports
    from curation.runner.takedown.search import search_store

    images = alike_images(store, takedowns.descriptors, files_with_vectors(written))
    if not images:
        return
    # Rows of all tables that were made before their vectors were known. Nobody here knows which runs go
    # on, so files of any stage may be written meanwhile.
    search_store(store, takedowns, lease.time_of_storage(), STAGES)
    delete_reports(store)
    close_folders(store)
    raise TakenDownError(
        f"{len(images):,} pictures in {store.uri} are copies of what was taken down, as their "
        "vectors show, so the step was not committed",
        fix="Run the whole recipe again: it leaves them out, and reuses what holds none of them",
    )
