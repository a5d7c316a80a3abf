"""Publishing the files of a dataset while another holder does the same."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from curation.engine.fragment_writer import FragmentWriter
from curation.errors import DamagedFileError
from curation.store.dataset_files import forget_staged, publish
from curation.store.fragment import Fragment
from curation.store.manifest import FragmentRecord
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


@pytest.mark.parametrize("folder", ["dataset/v1", "dataset/v2"])
def test_a_file_that_another_holder_published_meanwhile_is_taken_from_there(
    store: Store, staged: tuple[FragmentRecord, ...], folder: str
) -> None:
    forget_staged(store, staged, publish(store, "dataset/v1", staged))
    published = publish(store, folder, staged)
    assert Fragment(store, published[0]).read() == pa.Table.from_batches([ROWS])
    assert published[0].files[0].path.startswith(folder)


def test_a_staged_file_that_vanished_is_an_error_that_says_so(
    store: Store, staged: tuple[FragmentRecord, ...]
) -> None:
    store.storage.delete([staged[0].files[0].path])
    with pytest.raises(DamagedFileError, match=r"has vanished. Run the whole recipe again"):
        publish(store, "dataset/v1", staged)
