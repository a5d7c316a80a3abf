"""Publishing the files of a dataset while another holder does the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest

from curation.engine.fragment_writer import FragmentWriter
from curation.errors import DamagedFileError
from curation.store.dataset_files import forget_staged, publish
from curation.store.fragment import Fragment
from curation.store.manifest import FragmentRecord
from curation.store.storage.base import FileStatus
from curation.store.storage.local import LocalStorage
from curation.store.store import Store

ROWS = pa.RecordBatch.from_pydict({"n": [1, 2]})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def staged(store: Store) -> tuple[FragmentRecord, ...]:
    writer = FragmentWriter(store, "tables/dataset/data", "part-0", None)
    writer.write(ROWS)
    record = writer.close("tables/dataset", "memo", {})
    store.put_record(record)
    return (record,)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_file_that_another_holder_published_meanwhile_is_taken_from_there(
    store: Store, staged: tuple[FragmentRecord, ...], version: str
) -> None:
    forget_staged(store, staged, publish(store, "v1", staged))
    published = publish(store, version, staged)
    assert Fragment(store, published[0]).read() == pa.Table.from_batches([ROWS])
    assert published[0].files[0].path.startswith(f"dataset/{version}/")


def test_a_staged_file_that_vanished_is_an_error_that_says_so(
    store: Store, staged: tuple[FragmentRecord, ...]
) -> None:
    store.storage.delete([staged[0].files[0].path])
    with pytest.raises(DamagedFileError, match=r"has vanished. Run the whole recipe again"):
        publish(store, "v1", staged)


class Counted(LocalStorage):
    """A folder that counts what is asked of it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.calls: Counter[str] = Counter()

    def status(self, path: str) -> FileStatus | None:
        """See `Storage.status`."""
        self.calls["status"] += 1
        return super().status(path)

    def files(self, folder: str, recursive: bool = False) -> dict[str, FileStatus]:
        """See `Storage.files`."""
        self.calls["files"] += 1
        return super().files(folder, recursive)

    def copy(self, source: str, target: str) -> None:
        """See `Storage.copy`."""
        self.calls["copy"] += 1
        super().copy(source, target)

    def write(self, path: str, content: bytes) -> None:
        """See `Storage.write`."""
        self.calls["write"] += 1
        super().write(path, content)

    def delete(self, paths: Iterable[str]) -> None:
        """See `Storage.delete`."""
        self.calls["delete"] += 1
        super().delete(paths)


def parts(store: Store, numbers: Iterable[int]) -> list[FragmentRecord]:
    records = []
    for number in numbers:
        writer = FragmentWriter(store, "tables/dataset/data", f"part-{number}", None)
        writer.write(ROWS)
        records.append(writer.close("tables/dataset", f"memo-{number}", {}))
        store.put_record(records[-1])
    return records


def test_what_is_published_already_costs_no_request(tmp_path: Path) -> None:
    """A dataset may have 130,000 files, of which a run adds a few."""
    storage = Counted(tmp_path)
    store = Store(tmp_path, storage)
    first = parts(store, range(200))
    published = publish(store, "v1", first)
    forget_staged(store, first, published)
    assert storage.files("tables/dataset/data") == {}
    new = parts(store, range(200, 203))
    storage.calls.clear()
    staged = (*published, *new)
    again = publish(store, "v1", staged)
    forget_staged(store, staged, again)
    assert storage.calls == {"files": 1, "copy": 3, "write": 3, "delete": 1}
    assert len(storage.files("dataset/v1")) == 203
    assert storage.files("tables/dataset/data") == {}
    memos = [record.memo for record in again]
    assert list(store.finished_records("tables/dataset", memos).values()) == list(again)
