"""Files that cannot be read for a cause that says nothing of their bytes: nothing is set aside."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from curation.engine.table import open_table
from curation.errors import DamagedFileError, StoreError
from curation.runner.inputs import set_aside_damaged
from curation.store.access import OUT_OF_REACH, is_out_of_reach
from curation.store.manifest import FileEntry
from curation.store.problem import problem_of
from curation.store.store import Store
from curation.store.verification import verify_store

from ..tables import commit
from .finished import flip


@contextmanager
def no_more_files(spare: int = 0) -> Iterator[None]:
    """Let this process open no file but a few: the rest of its descriptors are taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 1024 if soft == resource.RLIM_INFINITY else min(soft, 1024)
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for descriptor in [taken.pop() for _ in range(spare)]:
            os.close(descriptor)
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a table of three fragments."""
    opened = Store(tmp_path)
    row = {"role": "pool", "source": "web", "status": "eligible"}
    commit(opened, "eligible", {f"web-{n}": [row | {"pair_id": f"p{n}"}] for n in range(3)})
    return opened


def entries(store: Store) -> list[FileEntry]:
    return [f for record in open_table(store, "eligible").manifest.fragments for f in record.files]


def test_a_file_that_this_process_cannot_open_is_not_set_aside(store: Store) -> None:
    named = entries(store)
    with no_more_files():
        problems = [problem_of(store, entry) for entry in named]
    for problem, entry in zip(problems, named, strict=True):
        assert problem is not None and problem.path == entry.path
        assert "cannot be read" in problem.problem and "Too many open files" in problem.problem
        assert problem.to_set_aside == ()
        assert "Give this user the right" in problem.remedy(store.uri)
    assert verify_store(store, set_aside=True) == []


@pytest.mark.parametrize("spare", range(0, 12, 3))
def test_a_store_that_is_verified_with_few_descriptors_stays_whole(
    store: Store, spare: int
) -> None:
    before = store.storage.files("", recursive=True)
    with no_more_files(spare), suppress(OSError):
        verify_store(store, set_aside=True)
    assert store.storage.files("", recursive=True) == before


def test_a_read_that_fails_so_does_not_ask_to_set_files_aside(store: Store) -> None:
    fragment = next(iter(open_table(store, "eligible").fragments.values()))
    with no_more_files(), pytest.raises(StoreError) as caught:
        fragment.read()
    assert not isinstance(caught.value, DamagedFileError)
    assert "Too many open files" in str(caught.value) and "set-aside" not in str(caught.value)
    assert fragment.read().num_rows == 1


def test_a_damaged_file_is_set_aside_only_where_its_bytes_can_be_read(store: Store) -> None:
    table = open_table(store, "eligible")
    (entry,) = next(iter(table.fragments.values())).record.files
    flip(Path(store.uri, entry.path))
    error = DamagedFileError("damaged", path=entry.path, sha256=entry.sha256)
    with no_more_files():
        set_aside_damaged(error, store)
    assert store.storage.status(entry.path) is not None
    set_aside_damaged(error, store)
    assert store.storage.status(entry.path) is None


@pytest.mark.parametrize("number", ["EACCES", "EPERM", "EMFILE", "ENFILE", "ESTALE", "ETIMEDOUT"])
def test_rights_limits_and_network_disks_are_no_damage(store: Store, number: str) -> None:
    assert is_out_of_reach(store.storage, OSError(getattr(errno, number), "no"))


@pytest.mark.parametrize("number", ["EIO", "EISDIR", "ELOOP"])
def test_a_broken_disk_is_damage(store: Store, number: str) -> None:
    assert getattr(errno, number) not in OUT_OF_REACH
    assert not is_out_of_reach(store.storage, OSError(getattr(errno, number), "broken"))
