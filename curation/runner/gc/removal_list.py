"""Deletes files in batches, and counts what stays and what goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from curation.errors import LeaseError
from curation.store.layout import is_written_here
from curation.store.step_log import Lease
from curation.store.storage.base import FileStatus, Storage

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

BATCH = 1000
"""Files that are deleted between two looks at the lease."""


@dataclass
class Tally:
    """Number and bytes of the files that stay, and of those that go."""

    kept_files: int = 0
    kept_bytes: int = 0
    removed_files: int = 0
    removed_bytes: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.kept_files + other.kept_files,
            self.kept_bytes + other.kept_bytes,
            self.removed_files + other.removed_files,
            self.removed_bytes + other.removed_bytes,
        )


@dataclass
class RemovalList:
    """Decides file by file, and deletes what goes.

    Args:
        storage: where the files are.
        lease: that of this gc; None deletes nothing and only counts.
        oldest_kept: files that were changed later stay, whatever they are.
        tallies: by label.
        forced: files that go whatever else would keep them: they hold what was taken down.
    """

    storage: Storage
    lease: Lease | None
    oldest_kept: float
    tallies: dict[str, Tally] = field(default_factory=dict)
    forced: set[str] = field(default_factory=set)

    def is_young(self, status: FileStatus) -> bool:
        """Whether a file stays although nothing names it: a run may be about to name it."""
        return status.modified > self.oldest_kept

    def decide(
        self,
        label: str,
        files: Mapping[str, FileStatus],
        is_needed: Callable[[str], bool],
        oldest_kept: float | None = None,
    ) -> list[str]:
        """Delete the files that are neither needed nor young; return the paths of those that stay.

        Files that curation did not write stay too, and are neither counted nor returned.

        Args:
            label: under which they are counted.
            files: the files by path.
            is_needed: whether the file with a path is needed.
            oldest_kept: files that were changed later stay; by default that of the list.
        """
        tally = self.tallies.setdefault(label, Tally())
        limit = self.oldest_kept if oldest_kept is None else min(oldest_kept, self.oldest_kept)
        kept, removed = [], []
        for path, status in files.items():
            if not is_written_here(path):
                continue
            if path not in self.forced and (status.modified > limit or is_needed(path)):
                kept.append(path)
                tally.kept_files += 1
                tally.kept_bytes += status.size
            else:
                removed.append(path)
                tally.removed_files += 1
                tally.removed_bytes += status.size
        self._delete(removed)
        return kept

    def keep(self, label: str, files: Mapping[str, FileStatus]) -> None:
        """Count files that stay."""
        self.decide(label, files, lambda path: True)

    def remove(
        self, label: str, files: Mapping[str, FileStatus], oldest_kept: float | None = None
    ) -> None:
        """Delete the files that are not young."""
        self.decide(label, files, lambda path: False, oldest_kept)

    def _delete(self, paths: list[str]) -> None:
        if self.lease is None:
            return
        for start in range(0, len(paths), BATCH):
            if not self.lease.is_held:
                raise LeaseError(
                    f"A run took over the lease of gc in {self.storage.uri}, because gc gave "
                    "no sign of life. What was removed so far is not needed by any kept run",
                    fix="Run gc again",
                )
            self.storage.delete(paths[start : start + BATCH])


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of tallies."""
    return sum(tallies, Tally())
