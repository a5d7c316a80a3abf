"""The bookkeeping of a table with very many fragments: bounded requests, memory and time."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.bookkeeping import (
    PHASES,
    collect_garbage,
    fill,
    make_dataset,
    measure_in_subprocess,
    run_screen,
    verify,
)
from benchmarks.object_store.proxy import Proxy
from curation.store.store import Store

pytestmark = pytest.mark.nightly

SIZES = (400, 1_600)
MANY = 130_000
PEAK_GIB, LIMIT_S = 2.0, 60.0


def filled(folder: Path, fragments: int) -> Path:
    """A store on disk with two tables of so many fragments, one with a file for each."""
    store = Store(folder)
    fill(store, fragments)
    assert run_screen(store) == f"{fragments:,} reused, 0 computed"
    return folder


def uploaded(folder: Path, address: str) -> Store:
    """A copy of a store on disk at another address."""
    store = Store(address)
    paths = [path for path in folder.rglob("*") if path.is_file()]

    def upload(path: Path) -> None:
        store.storage.write(path.relative_to(folder).as_posix(), path.read_bytes())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(upload, paths))
    return store


def test_requests_grow_little_with_the_fragments(
    new_address: Callable[[], str], proxy: Proxy, tmp_path: Path
) -> None:
    """To verify one fragment takes its record, and size, opening and content of its file."""
    requests: dict[str, list[int]] = {"verify": [], "gc-keep": [], "gc-remove": []}
    for size in SIZES:
        folder = filled(tmp_path / str(size), size)
        kept = uploaded(folder, new_address())
        make_dataset(Store(folder))
        replaced = uploaded(folder, new_address())
        for name, store, call in (
            ("verify", kept, verify),
            ("gc-keep", kept, collect_garbage),
            ("gc-remove", replaced, collect_garbage),
        ):
            before = len(proxy.requests)
            did = call(Store(store.uri))
            requests[name].append(len(proxy.requests) - before)
            assert name != "verify" or did == "0 problems"
        left = replaced.storage.files("tables/scores", recursive=True)
        assert not [path for path in left if path.endswith((".parquet", ".json"))]
    slopes = {k: (v[1] - v[0]) / (SIZES[1] - SIZES[0]) for k, v in requests.items()}
    assert slopes["verify"] < 4.1, requests
    assert slopes["gc-keep"] < 0.05, requests
    assert slopes["gc-remove"] < 0.05, requests


@pytest.mark.timeout(1800)
def test_many_fragments_take_little_memory_and_time(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    fill(Store(folder), MANY)
    # `resume` plans, looks for what is finished, and commits it.
    measured = {phase: measure_in_subprocess(phase, folder) for phase in PHASES}
    make_dataset(Store(folder))
    measured["gc-remove"] = measure_in_subprocess("gc-remove", folder)
    assert measured["verify"]["did"] == "0 problems"
    for phase in ("resume", "rerun"):
        result = measured.pop(phase)
        assert result["did"] == f"{MANY:,} reused, 0 computed"
        assert result["peak"] < PEAK_GIB, phase
        assert result["seconds"] < LIMIT_S, phase
    counts = {
        p: [int(n.replace(",", "")) for n in re.findall(r"[\d,]*\d", m["did"])]
        for p, m in measured.items()
    }
    (kept, outdated), (_, removed) = counts["gc-keep"], counts["gc-remove"]
    assert outdated < 10
    assert min(kept, removed) >= 2 * MANY
    for phase, result in measured.items():
        assert result["peak"] < PEAK_GIB, phase
