"""What a run does so that it commits nothing that was taken down meanwhile."""

from __future__ import annotations

from collections.abc import Iterable

from curation.errors import StoreError
from curation.store.manifest import FragmentRecord
from curation.store.store import Store
from curation.store.tombstones import Takedowns

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def check_unchanged(
    store: Store, before: Takedowns | None, written: Iterable[FragmentRecord]
) -> None:
    """Check that nothing was taken down since a step started.

    Raises:
        StoreError: something was. What the step wrote of it counts as vanished.
    """
    now = store.takedowns(again=True)
    if now is None or (before is not None and now.names == before.names):
        return
    # It imports decoders of images, which most runs do not need.
    from curation.runner.takedown.search import search_files

    files = {f.path for record in written for f in record.files}
    search_files(store, now, sorted(files))
    raise StoreError(
        f"Rows of {store.uri} were taken down while this step worked, so it was not committed",
        fix="Run the same command again: it reuses what holds none of them",
    )
