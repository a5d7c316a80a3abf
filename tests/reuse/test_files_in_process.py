"""A file that is replaced in place is read again, also by a process that has read it before."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from curation.media.files.file_cache import cached_by_file, file_state
from curation.stages.screen.filters.base import Filter
from curation.stages.screen.words import load_words

TIME = 1_700_000_000 * 10**9

CACHES = {
    "curation.algorithms.arrays.screen_choice": "the speed of the processor",
    "curation.algorithms.knn.hash_parts": "by values",
    "curation.engine.contract": "schemas, which are code",
    "curation.engine.libraries": "installed packages",
    "curation.inspect.audit.overlays": "fonts of the package",
    "curation.inspect.audit.verify_pairs": "by image_id",
    "curation.media.files.file_cache": "by the state of the file",
    "curation.media.files.parquet_levels": "by values",
    "curation.media.pictures.colours": "colour profiles, by their content",
    "curation.media.pictures.formats": "formats of Pillow and its plug-ins",
    "curation.media.pictures.high_range": "profiles, by the codes of their colours",
    "curation.media.pictures.metadata.content_credentials": "the library of C2PA and its settings",
    "curation.media.web.host_names": "by the name",
    "curation.media.web.opt_outs.robots_cache": "answers of hosts, for the time of RFC 9309",
    "curation.media.web.patterns": "by values",
    "curation.media.web.urls": "by values; block lists by their content",
    "curation.plugin_sources": "the content of a file; folders of libraries",
    "curation.stages.fetch.detectors.haar": "a file of OpenCV",
    "curation.stages.fetch.detectors.yunet": "the content of a file",
    "curation.stages.fetch.picture": "parameters, by their text",
    "curation.stages.fetch.shard_writer": "a module of a package",
    "curation.stages.ingest.formats.quoting": "patterns, by the delimiter",
    "curation.stages.screen.filters.caption_language": "a model of a package",
    "curation.stages.verify.blocks": "sizes and a map, by values",
    "curation.stages.verify.measured_pairs": "by image_id",
    "curation.store.holder": "names the process",
    "curation.store.manifest_file": "by file of one open manifest",
}
"""The modules that keep results in a process, and by what they know them."""


def test_no_other_module_keeps_what_it_read_from_a_file(root: Path) -> None:
    """A new cache of what stands in a file must use `cached_by_file`."""
    modules = set()
    for path in (root / "curation").rglob("*.py"):
        names = {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}
        if names & {"lru_cache", "cache"}:
            modules.add(".".join(path.relative_to(root).with_suffix("").parts))
    assert modules == CACHES.keys()


def put(path: Path, text: str) -> None:
    """Write a file in place of another, with the same time of modification."""
    path.write_text(text)
    os.utime(path, ns=(TIME, TIME))


def scores(words: Filter, caption: str) -> float | str | None:
    """Return the score of a caption."""
    from types import SimpleNamespace

    return words.score(SimpleNamespace(caption=caption))  # type: ignore[arg-type]


def test_a_list_of_words_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    put(path, "cat\n")
    assert load_words(str(path)) is load_words(str(path))
    assert scores(load_words(str(path)), "a cat and a dog, dog") == 1
    put(path, "dog\n")
    assert scores(load_words(str(path)), "a cat and a dog, dog") == 2


@pytest.mark.parametrize("how", ["in place", "another file", "a link", "within a folder"])
def test_the_state_of_a_file_changes_with_its_content(tmp_path: Path, how: str) -> None:
    reads = 0

    @cached_by_file(lambda path: path, maxsize=4)
    def read(path: str) -> str:
        nonlocal reads
        reads += 1
        file = Path(path) / "weights" if Path(path).is_dir() else Path(path)
        return file.read_text()

    folder = tmp_path / "model"
    folder.mkdir()
    put(folder / "weights", "one")
    put(tmp_path / "other", "two")
    places = {"within a folder": folder, "a link": tmp_path / "link"}
    path = places.get(how, folder / "weights")
    if how == "a link":
        path.symlink_to(folder / "weights")
    assert [read(str(path)), read(str(path)), reads] == ["one", "one", 1]
    if how == "a link":
        path.unlink()
        path.symlink_to(tmp_path / "other")
    elif how == "another file":
        (tmp_path / "other").replace(path)
    else:
        put(folder / "weights", "two")
    assert read(str(path)) == "two"
    assert file_state(str(tmp_path / "none")) is None
