"""What readers put aside: a full disk is no damage of a file, and no file may fill it."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from curation.errors import StoreError
from curation.media.files.temporary_files import on_temporary_disk
from curation.stages.ingest.formats import webdataset
from curation.stages.ingest.formats.annotations import Annotations
from curation.stages.ingest.sources.listing import list_source
from curation.stages.ingest.sources.source import Source
from curation.stages.ingest.sources.source_file import SourceFile
from tests.ingest.helpers import jpeg, pairs, source, write_tar


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def listed(path: Path) -> SourceFile:
    of_recipe = Source(name="s", role="pool", format="webdataset", path=str(path))
    (file,) = list_source(of_recipe, 1000).files
    return file


def test_a_full_disk_is_no_damage_of_a_tar(tmp_path: Path) -> None:
    texts = [(f"{number:03d}.txt", b"a" * 60_000) for number in range(300)]
    file = listed(write_tar(tmp_path / "s.tar", [("000.jpg", jpeg(1)), *texts]))
    with (
        pytest.raises(StoreError, match=r"temporary file .* cannot be used .*TMPDIR"),
        small_files(2**20),
    ):
        list(webdataset.read(file))


def test_a_full_disk_is_no_damage_of_a_list(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"temporary file .* cannot be used"),
        small_files(2**15),
        Annotations() as annotations,
    ):
        for number in range(300):
            annotations.add({"image_id": number, "caption": "a" * 100_000})


def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="mine"), on_temporary_disk():
        raise ValueError("mine")


def test_the_texts_of_a_tar_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "MEMBER_TEXTS_BYTES", 100_000)
    members = [
        (f"{n}.{e}", c) for n in range(3) for e, c in (("jpg", jpeg(n)), ("txt", b"a" * 40_000))
    ]
    path = write_tar(tmp_path / "s.tar", members)
    rows = pairs(tmp_path / "store", source(path, format="webdataset"))
    assert [row["source_key"] for row in rows if row["reason"] is None] == ["0", "1", "2"]
    (bad,) = (row for row in rows if row["reason"] == "bad_row")
    assert "its texts have more than 100,000 bytes" in json.loads(bad["metadata"])["unreadable"]
