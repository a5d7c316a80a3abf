"""What a stranger's folder holds leads to no other file of the machine, and no pipe is ever opened."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation.engine.context import Context
from curation.engine.parallel import InProcess
from curation.errors import RecipeError, StoreError
from curation.media.files import location
from curation.media.files.location import OutsideFolderError, open_local
from curation.media.regular_file import SpecialFileError
from curation.media.web.params import UrlParams
from curation.media.web.urls import url_rules
from curation.runner.gc.forget import Request, read_list
from curation.stages.ingest.sources.listing import list_source
from curation.stages.ingest.sources.source import Source
from curation.stages.screen.words import load_words
from curation.store.store import Store
from tests.ingest.helpers import jpeg, noted, pairs, run, source, table

ROW = "url,caption\nhttp://a.example/{},c\n"


def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.csv"
    path.write_text(ROW.format("secret"))
    return path


def lists(tmp_path: Path) -> Path:
    folder = tmp_path / "lists"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.csv").write_text(ROW.format("a"))
    return folder


LINKS: dict[str, Callable[[Path, Path], str]] = {
    "absolute": lambda folder, target: str(target),
    "relative": lambda folder, target: f"../{target.name}",
    "through a folder": lambda folder, target: f"sub/../../{target.name}",
    "through another link": lambda folder, target: "sub/hop",
    "through /proc": lambda folder, target: f"/proc/self/root{target}",
}


@pytest.mark.parametrize("pattern", ["", "/*", "/**", "/*.csv"])
@pytest.mark.parametrize("kind", LINKS)
def test_a_list_that_is_a_link_out_of_its_folder_is_not_read(
    tmp_path: Path, kind: str, pattern: str
) -> None:
    folder, target = lists(tmp_path), secret(tmp_path)
    (folder / "sub" / "hop").symlink_to(target)
    (folder / "b.csv").symlink_to(LINKS[kind](folder, target))
    spec = source(f"{folder}{pattern}", format="csv")
    urls = [row["url"] for row in pairs(tmp_path / "s1", spec)]
    assert urls == ["http://a.example/a"]
    assert noted(tmp_path / "s1")["link_out_of_folder"] >= 1
    followed = pairs(tmp_path / "s2", spec | {"follow_links": True})
    assert "http://a.example/secret" in [row["url"] for row in followed]
    assert "link_out_of_folder" not in noted(tmp_path / "s2")


def test_a_list_that_is_a_link_within_its_folder_is_read(tmp_path: Path) -> None:
    folder = lists(tmp_path)
    (folder / "sub" / "data").write_text(ROW.format("b"))
    (folder / "b.csv").symlink_to("sub/data")
    assert len(pairs(tmp_path / "store", source(folder, format="csv"))) == 2


def test_one_list_that_is_such_a_link_is_refused_with_the_option_that_reads_it(
    tmp_path: Path,
) -> None:
    folder, target = lists(tmp_path), secret(tmp_path)
    (folder / "b.csv").symlink_to(target)
    spec = source(folder / "b.csv", format="csv")
    with pytest.raises(RecipeError, match=r"link_out_of_folder.*`follow_links: true`"):
        pairs(tmp_path / "store", spec)
    assert len(pairs(tmp_path / "store", spec | {"follow_links": True})) == 1


def test_the_folder_of_a_source_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "here").symlink_to(lists(tmp_path))
    assert len(pairs(tmp_path / "store", source(tmp_path / "here", format="csv"))) == 1


def test_a_list_that_becomes_a_link_after_it_was_listed_is_not_read(tmp_path: Path) -> None:
    folder, target = lists(tmp_path), secret(tmp_path)
    spec = Source(name="s", role="pool", format="csv", path=str(folder), columns={"url": "url"})
    (file,) = list_source(spec, 100).files
    (folder / "a.csv").unlink()
    (folder / "a.csv").symlink_to(target)
    with pytest.raises(StoreError, match=r"a\.csv cannot be read"):
        file.open()


PATHS = ["../out.jpg", "/etc/hostname", "sub/../../out.jpg", "link.jpg", "hop/out.jpg", "a\x00.jpg"]


def test_paths_of_a_list_lead_to_no_file_outside(tmp_path: Path) -> None:
    folder = lists(tmp_path)
    (tmp_path / "out.jpg").write_bytes(jpeg())
    (folder / "in.jpg").write_bytes(jpeg())
    (folder / "link.jpg").symlink_to("../out.jpg")
    (folder / "hop").symlink_to("..")
    os.mkfifo(folder / "pipe.jpg")
    names = [*PATHS, "in.jpg", "pipe.jpg", "sub", "x" * 5000, "/".join(["a"] * 2000)]
    text = "".join(json.dumps({"path": name}) + "\n" for name in names)
    (folder / "l.jsonl").write_text(text)
    spec = source(folder / "l.jsonl", format="jsonl", columns={"path": "path"})
    run(tmp_path / "store", spec, until="fetch")
    reasons = [row["reason"] for row in table(tmp_path / "store", "images").read().to_pylist()]
    assert reasons[: len(PATHS)] == ["outside_folder"] * len(PATHS)
    assert reasons[len(PATHS) :] == [
        None,
        "file_missing",
        "file_missing",
        "bad_row",
        "file_missing",
    ]


def special_files(folder: Path) -> dict[str, Path]:
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("pipe")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "terminal").symlink_to("/dev/tty")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    return {n: folder / n for n in ("pipe", "link", "device", "terminal", "socket", ".")}


def test_no_special_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in special_files(tmp_path).values():
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", None)
            with pytest.raises(SpecialFileError):
                open_local(str(path))


def test_no_list_that_somebody_names_may_be_a_special_file(tmp_path: Path) -> None:
    context = Context(Store(tmp_path / "store"), InProcess(), "test", None)
    for path in map(str, special_files(tmp_path).values()):
        with pytest.raises(RecipeError, match=r"no regular file.*convert the list"):
            load_words(path)
        with pytest.raises(RecipeError, match=r"no regular file.*Give a text file"):
            url_rules(UrlParams(blocked_domains=path), context)
        with pytest.raises(RecipeError, match=r"no regular file.*Name a text file"):
            read_list(Path(path), Request())


def test_a_pipe_that_takes_the_place_of_a_file_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x")
    status = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(os, "stat", lambda *args, **kwargs: status)
    with pytest.raises(SpecialFileError):
        open_local(str(path))


@pytest.mark.parametrize("kind", ["csv", "txt", "parquet", "webdataset", "wat", "jsonl"])
def test_special_files_in_a_folder_of_lists_are_counted(tmp_path: Path, kind: str) -> None:
    ending = {"webdataset": "tar"}.get(kind, kind)
    os.mkfifo(tmp_path / f"a.{ending}")
    (tmp_path / f"b.{ending}").symlink_to("/dev/zero")
    spec: dict[str, Any] = {"name": "s", "role": "pool", "format": kind, "path": str(tmp_path)}
    if kind in ("csv", "parquet", "jsonl"):
        spec["columns"] = {"url": "url"}
    with pytest.raises(RecipeError, match="special_file: a"):
        list_source(Source(**spec), 100)
    with pytest.raises(RecipeError, match="no folder"):
        list_source(Source(**spec | {"path": str(tmp_path / f"a.{ending}")}), 100)


def test_a_file_may_not_be_followed_where_links_were_resolved(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").symlink_to("a")
    assert open_local(str(tmp_path / "b")).read() == b"x"
    with pytest.raises(OSError):
        open_local(str(tmp_path / "b"), follow_links=False)
    with pytest.raises(OutsideFolderError):
        location.open_location(str(tmp_path / "b"))


@pytest.mark.parametrize(("name", "depth"), [("d", 120), ("d" * 250, 20)], ids=["deep", "long"])
def test_folders_within_folders_end_no_listing(tmp_path: Path, name: str, depth: int) -> None:
    folder = lists(tmp_path)
    here = os.open(folder, os.O_RDONLY)
    try:
        for _ in range(depth):
            os.mkdir(name, dir_fd=here)
            inner = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
    finally:
        os.close(here)
    assert len(pairs(tmp_path / "store", source(folder, format="csv"))) == 1
    assert noted(tmp_path / "store") == {"unreadable_folder": 1}


@pytest.mark.parametrize("path", ["x" * 300, "x/" * 3000, "x" * 300 + "/*.csv"])
def test_a_path_that_no_file_can_have_is_one_message(tmp_path: Path, path: str) -> None:
    with pytest.raises(RecipeError, match=r"web.*\(File name too long\)\. Set a `path`"):
        pairs(tmp_path / "store", source(tmp_path / path, format="csv"))


@pytest.mark.parametrize("path", ["l.csv", "*.csv", "."])
def test_a_folder_that_this_user_may_not_enter_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    lstat = Path.lstat

    def denied(self: Path) -> os.stat_result:
        if "closed" not in self.parts:
            return lstat(self)
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "lstat", denied)
    with pytest.raises(RecipeError, match=r"web.*Permission denied.*Give this user the right"):
        pairs(tmp_path / "store", source(tmp_path / "closed" / path, format="csv"))
