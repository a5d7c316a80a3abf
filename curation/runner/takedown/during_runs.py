"""What a run does so that it commits nothing that was taken down."""

from __future__ import annotations

from collections.abc import Sequence

from curation.errors import TakenDownError
from curation.store.manifest import FragmentRecord
from curation.store.store import Store
from curation.store.tombstones import Takedowns

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def check_written(
    store: Store, before: Takedowns | None, written: Sequence[FragmentRecord]
) -> None:
    """Check that a step wrote nothing that was taken down.

    Args:
        store: where it wrote.
        before: what had been taken down when it began.
        written: the fragments of its tables.

    Raises:
        TakenDownError: something was taken down since it began, or vectors show copies of what was.
            What it wrote of it counts as vanished.
    """
    now = store.takedowns(again=True)
    if now is None:
        return
    if before is not None and now.names == before.names:
        _check_copies(store, now, written)
        return
    # It imports decoders of images, which most runs do not need.
    from curation.runner.takedown.search import search_files

    files = {f.path for record in written for f in record.files}
    search_files(store, now, sorted(files))
    raise TakenDownError(
        f"Rows of {store.uri} were taken down while this step worked, so it was not committed",
        fix="Run the same command again: it reuses what holds none of them",
    )


def _check_copies(store: Store, takedowns: Takedowns, written: Sequence[FragmentRecord]) -> None:
    if not takedowns.descriptors:
        return
    from curation.runner.takedown.alike import alike_images, files_with_vectors
    from curation.runner.takedown.close import close_folders, delete_reports
    from curation.runner.takedown.search import search_store

    images = alike_images(store, takedowns.descriptors, files_with_vectors(written))
    if not images:
        return
    # Rows of all tables that were made before their vectors were known.
    search_store(store, takedowns)
    delete_reports(store)
    close_folders(store)
    raise TakenDownError(
        f"{len(images):,} pictures in {store.uri} are copies of what was taken down, as their "
        "vectors show, so the step was not committed",
        fix="Run the whole recipe again: it leaves them out, and reuses what holds none of them",
    )
