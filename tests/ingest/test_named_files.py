"""Image files that a list names are looked at in every run, wherever they are."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from curation.store.fragment import Fragment
from tests.ingest.helpers import jpeg, run, source, table, write


def named(store: Path) -> list[str | None]:
    """Return what identifies the files that the rows of each fragment name."""
    fragments: list[Fragment] = list(table(store, "pairs").fragments.values())
    return [fragment.record.stats.get("origin") for fragment in fragments]


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_a_named_file_that_changes_comes_or_goes_is_seen(tmp_path: Path, where: str) -> None:
    root = f"memory://named{tmp_path.name}" if where == "memory" else str(tmp_path / "web")
    files = fsspec.filesystem("memory" if where == "memory" else "file")
    names = ["a.jpg", "deep/b.jpg"] + (["a b.jpg", "deep/b%20.jpg", "c#.jpg"] * (where == "disk"))
    path = write(tmp_path / "l.parquet", [{"p": name} for name in names])
    files.makedirs(f"{root}/deep", exist_ok=True)
    files.put(str(path), f"{root}/l.parquet")
    spec = source(f"{root}/l.parquet", columns={"path": "p"})
    seen = []
    for size in (30, 40, None):
        for name in names:
            seen.append(named_after(tmp_path / "store", spec))
            if size is None:
                files.rm(f"{root}/{name}")
            else:
                files.pipe(f"{root}/{name}", jpeg(1, (size, 24)))
    seen.append(named_after(tmp_path / "store", spec))
    assert len(set(seen[:-1])) == len(seen) - 1 and seen[-1] == seen[0]
    assert run(tmp_path / "store", spec)["ingest"].up_to_date


def named_after(store: Path, spec: dict[str, object]) -> str | None:
    """Run ingest, and return what identifies the files that rows name."""
    run(store, spec)
    (named_file,) = named(store)
    return named_file
