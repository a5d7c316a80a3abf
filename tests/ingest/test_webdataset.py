"""WebDataset tars, whole and damaged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from curation.errors import StoreError
from tests.ingest.helpers import jpeg, pairs, run, source, table, write_tar

MEMBERS = [
    ("a/0001.jpg", jpeg(1)),
    ("a/0001.txt", b"one"),
    ("a/0001.json", b'{"width": 32, "alt": "other words", "id": 11}'),
    ("a/0002.txt", b"no picture"),
    ("a/0003.left.png", b"x"),
    ("a/0003.json", b"not json"),
]


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz"])
def test_a_tar_gives_one_row_per_key(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / name, MEMBERS)
    rows = pairs(tmp_path / "store", source(path, format="webdataset"))
    assert [(r["source_key"], r["caption"], r["location"], r["reason"]) for r in rows] == [
        ("a/0001", "one", f"{path}#a/0001.jpg", None),
        ("a/0002", "no picture", None, "no_image"),
        ("a/0003", None, f"{path}#a/0003.left.png", None),
    ]
    assert json.loads(rows[0]["metadata"]) == {"width": 32, "alt": "other words", "id": 11}


def test_a_tar_can_take_caption_and_key_from_its_json(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", MEMBERS[:3])
    columns = {"caption": "alt", "key": "id"}
    (stored_row,) = pairs(tmp_path / "store", source(path, format="webdataset", columns=columns))
    assert (stored_row["caption"], stored_row["source_key"]) == ("other words", "11")


def test_names_may_repeat_in_other_shards(tmp_path: Path) -> None:
    for shard in range(3):
        members = {
            f"{n}.{ending}": jpeg(10 * shard + n) if ending == "jpg" else f"c{shard}{n}".encode()
            for n in range(3)
            for ending in ("jpg", "txt")
        }
        write_tar(tmp_path / f"{shard}.tar", members)
    run(tmp_path / "store", source(tmp_path / "*.tar", format="webdataset"), until="fetch")
    stored = table(tmp_path / "store", "images").read().to_pylist()
    hashes = {row["caption"]: row["sha256"] for row in stored if row["status"] == "ok"}
    assert hashes == {
        f"c{shard}{n}": hashlib.sha256(jpeg(10 * shard + n)).hexdigest()
        for shard in range(3)
        for n in range(3)
    }
    assert len({row["pair_id"] for row in stored}) == 9


@pytest.mark.parametrize("cut", ["in a body", "in a header", "overwritten"])
def test_a_damaged_tar_gives_the_rows_before_the_damage_and_a_bad_row(
    tmp_path: Path, cut: str
) -> None:
    path = write_tar(tmp_path / "s.tar", [(f"{i:04d}.jpg", jpeg(i)) for i in range(3)])
    content = path.read_bytes()
    second = 512 + -(-len(jpeg(0)) // 512) * 512
    ends = {"in a body": second + 600, "in a header": second + 100, "overwritten": second}
    tail = b"\x55" * 5000 if cut == "overwritten" else b""
    path.write_bytes(content[: ends[cut]] + tail)
    rows = pairs(tmp_path / "store", source(path, format="webdataset"))
    assert rows[0]["source_key"] == "0000"
    assert rows[-1]["reason"] == "bad_row"
    assert len(rows) <= 3


def test_an_error_names_a_file_that_is_not_a_tar(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(b"nonsense" * 1000)
    with pytest.raises(StoreError, match=r"s\.tar is not a tar"):
        pairs(tmp_path / "store", source(tmp_path / "s.tar", format="webdataset"))
