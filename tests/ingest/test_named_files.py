"""Image files that a list names are looked at in every run, wherever they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

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
    names = ["a.jpg", "deep/b.jpg", "a b.jpg", "deep/b%20.jpg", "c#é.jpg"]
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


def fetched(store: Path, spec: dict[str, Any]) -> list[tuple[str | None, str | None]]:
    """Run fetch, and return the checksum and the reason of each row."""
    run(store, spec, until="fetch")
    rows = table(store, "images").read(["sha256", "reason"]).to_pylist()
    return [(row["sha256"], row["reason"]) for row in rows]


@pytest.mark.parametrize(
    ("link", "form"), [("folder", "parquet"), ("file", "jsonl"), ("nested", "coco")]
)
def test_a_link_that_leads_elsewhere_is_followed_again(
    tmp_path: Path, link: str, form: str
) -> None:
    contents = {version: jpeg(n) for n, version in enumerate(("v1", "v2", "v3"))}
    for folder, content in contents.items():
        (tmp_path / "web" / folder).mkdir(parents=True)
        (tmp_path / "web" / folder / "a.jpg").write_bytes(content)
    (tmp_path / "web" / "more").mkdir()
    path, at, way = {
        "folder": ("now/a.jpg", "now", "{}"),
        "file": ("a.jpg", "a.jpg", "{}/a.jpg"),
        "nested": ("v1/../more/./now/a.jpg", "more/now", "../{}"),
    }[link]
    spec = listed(tmp_path / "web", form, [path, "v1/a.jpg"])
    leads_to: tuple[str | None, ...] = ("v1", "v2", "v1", "v3", None, "v2")
    for version in leads_to:
        (tmp_path / "web" / at).unlink(missing_ok=True)
        if version is not None:
            (tmp_path / "web" / at).symlink_to(way.format(version))
        found = fetched(tmp_path / "store", spec)
        first = (None, "file_missing") if version is None else (sha256(contents[version]), None)
        assert found == [first, (sha256(contents["v1"]), None)]
        assert run(tmp_path / "store", spec)["ingest"].up_to_date


def test_a_folder_may_become_a_link_and_a_link_a_folder(tmp_path: Path) -> None:
    spec = listed(tmp_path / "web", "jsonl", ["a/1.jpg", "0.jpg"])
    web = tmp_path / "web"
    (web / "0.jpg").write_bytes(jpeg(0))
    for name, shade in (("a", 1), ("b", 2)):
        (web / name).mkdir()
        (web / name / "1.jpg").write_bytes(jpeg(shade))
    zero, one, two = (sha256(jpeg(shade)) for shade in (0, 1, 2))
    assert fetched(tmp_path / "store", spec) == [(one, None), (zero, None)]
    (web / "a").rename(web / "c")
    (web / "a").symlink_to("b")
    assert fetched(tmp_path / "store", spec) == [(two, None), (zero, None)]
    (web / "a").unlink()
    (web / "a").symlink_to(tmp_path)
    assert fetched(tmp_path / "store", spec) == [(None, "outside_folder"), (zero, None)]
    (web / "a").unlink()
    (web / "c").rename(web / "a")
    assert fetched(tmp_path / "store", spec) == [(one, None), (zero, None)]


def listed(folder: Path, form: str, paths: list[str]) -> dict[str, Any]:
    """A list of paths."""
    folder.mkdir(exist_ok=True)
    if form == "coco":
        images = [{"id": number, "file_name": path} for number, path in enumerate(paths)]
        (folder / "l.json").write_text(json.dumps({"images": images}))
        return source(folder / "l.json", columns={}) | {"format": "coco"}
    if form == "parquet":
        write(folder / "l.parquet", [{"p": path} for path in paths])
    else:
        (folder / "l.jsonl").write_text("".join(json.dumps({"p": path}) + "\n" for path in paths))
    return source(folder / f"l.{form}", format=form, columns={"path": "p"})


def sha256(content: bytes) -> str:
    """The checksum of a picture."""
    return hashlib.sha256(content).hexdigest()


def named_after(store: Path, spec: dict[str, object]) -> str | None:
    """Run ingest, and return what identifies the files that rows name."""
    run(store, spec)
    (named_file,) = named(store)
    return named_file
