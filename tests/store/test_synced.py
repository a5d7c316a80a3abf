"""What a record names would outlast a power failure: files and folders are synced before it exists."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation.store.storage.base import TEMPORARY_SUFFIX
from curation.store.storage.local import LocalStorage

from ..gc.helpers import build_tiny, run_recipe


class Disk:
    """Knows what has been synced; calls `before_name` before a file gets its name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._contents: dict[int, tuple[int, int]] = {}
        self._names: dict[int, set[str]] = {}
        self.before_name: Callable[[Path, Path], None] = lambda source, target: None
        self._sync, self._link, self._replace = os.fsync, os.link, os.replace
        monkeypatch.setattr(os, "fsync", self._fsync)
        for name, move in (("link", os.link), ("replace", os.replace)):
            monkeypatch.setattr(os, name, self._naming(move))

    def _fsync(self, descriptor: int) -> None:
        self._sync(descriptor)
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self._names[status.st_ino] = set(os.listdir(descriptor))
        else:
            self._contents[status.st_ino] = (status.st_size, status.st_mtime_ns)

    def _naming(self, move: Callable[..., None]) -> Callable[..., None]:
        def moved(source: Any, target: Any, *rest: Any, **options: Any) -> None:
            self.before_name(Path(source), Path(target))
            move(source, target, *rest, **options)

        return moved

    def keeps_content(self, path: Path) -> bool:
        """Whether all bytes of a file are synced."""
        status = path.stat()
        return self._contents.get(status.st_ino) == (status.st_size, status.st_mtime_ns)

    def keeps(self, path: Path, below: Path) -> bool:
        """Whether a file would be there after a power failure, if the folder `below` is."""
        named = [path, *(p for p in path.parents if p.is_relative_to(below) and p != below)]
        return self.keeps_content(path) and all(
            p.name in self._names.get(p.parent.stat().st_ino, ()) for p in named
        )


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def write_twice(storage: LocalStorage, path: str) -> None:
    storage.write(path, b"a")
    storage.write(path, b"other")


def open_output(storage: LocalStorage, path: str) -> None:
    with storage.open_output(path) as stream:
        stream.write(b"a" * 100_000)


def copy(storage: LocalStorage, path: str) -> None:
    storage.write("original", b"a")
    storage.copy("original", path)


OPERATIONS: dict[str, Callable[[LocalStorage, str], Any]] = {
    "write": write_twice,
    "create": lambda storage, path: storage.create(path, b"a"),
    "open_output": open_output,
    "copy": copy,
}


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_written_is_on_the_disk_when_the_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, links: bool
) -> None:
    def refused(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EPERM, "no hard links")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    disk = Disk(monkeypatch)
    named = []

    def has_content(source: Path, target: Path) -> None:
        named.append(target)
        assert disk.keeps_content(source)

    disk.before_name = has_content
    OPERATIONS[name](LocalStorage(tmp_path / "new" / "store"), "a/b/c")
    assert named or name == "open_output"
    assert disk.keeps(tmp_path / "new" / "store" / "a" / "b" / "c", tmp_path)


def test_files_are_on_the_disk_before_a_record_names_them(tmp_path: Path, disk: Disk) -> None:
    store = tmp_path / "store"
    checked: dict[str, int] = {"done": 0, "steps": 0}

    def files_are_kept(source: Path, target: Path) -> None:
        """A completion record names its files; an entry of a log may name any file of a table."""
        files: list[Path] = []
        if target.parent.name == "done" and source.name.endswith(TEMPORARY_SUFFIX):
            files = [store / file["path"] for file in json.loads(source.read_bytes())["files"]]
            checked["done"] += len(files)
        elif target.is_relative_to(store / "steps"):
            paths = (p for kind in ("tables", "dataset") for p in (store / kind).rglob("*"))
            files = [p for p in paths if p.is_file() and not p.name.endswith(TEMPORARY_SUFFIX)]
            checked["steps"] += len(files)
        assert [path for path in files if not disk.keeps(path, tmp_path)] == []

    disk.before_name = files_are_kept
    run_recipe(build_tiny(tmp_path), store, until="screen")
    assert min(checked.values()) > 5
