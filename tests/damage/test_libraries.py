"""The versions of libraries are recorded with the fragments that they computed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.libraries import LIBRARIES, library_versions
from curation.engine.parallel import InProcess
from curation.engine.units import StageOutput, empty_batch
from curation.store.fragment import Fragment
from curation.store.store import Store

from ..tables import commit_manifest, hand_made

CANNOT_CHANGE_ROWS = {
    "duckdb": "answers queries of a store",
    "fastavro": "writes the metadata by which other programs open tables",
    "fsspec": "opens files",
    "jinja2": "writes reports",
    "obstore": "opens the store",
    "pydantic": "checks recipes",
    "pyyaml": "reads recipes, whose values are in memos",
    "rich": "prints",
    "safetensors": "reads weights bit for bit",
    "scikit-image": "has pictures of the quickstart",
    "standard-imghdr": "is imported by img2dataset, for files that are images already",
    "typer": "is the command line",
}
"""Dependencies whose version is not recorded, and why."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_recorded_or_cannot_change_rows(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["cpu"], *extras["gpu"], *extras["text"]]
    asked += [*extras["heif"], *extras["jxl"], *extras["c2pa"]]
    names = {normal(re.split(r"[<>=;\[ ]", line)[0]) for line in asked}
    recorded = {normal(name) for name in LIBRARIES}
    assert names - recorded == CANNOT_CHANGE_ROWS.keys()
    # All of them are dependencies, or come with one of them.
    assert recorded - names == {"tokenizers", "yarl"}


def test_what_decides_pixels_and_hashes_is_recorded() -> None:
    known = library_versions()
    for name in ("opencv-python-headless", "ImageHash", "simplejpeg", "pillow", "libjpeg-turbo"):
        assert re.match(r"\d+\.\d", known[name]), name


def test_each_fragment_keeps_the_versions_that_computed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    records = []
    for name, version in (("web-0", "1.0"), ("web-1", "2.0")):
        monkeypatch.setattr(
            "curation.engine.fragment_writer.library_versions",
            lambda version=version: {"numpy": version, "scipy": "3.0"},
        )
        writer = FragmentWriter(store, "tables/pairs/data", name, contract("pairs"))
        writer.write(empty_batch(contract("pairs").arrow_schema()))
        records.append(writer.close("tables/pairs", name, {}))
        store.put_record(records[-1])
    commit_manifest(store, hand_made("pairs", "v1", records, {}))
    manifest = store.manifest("pairs", "v1")
    assert manifest is not None
    expected = [{"numpy": version, "scipy": "3.0"} for version in ("1.0", "2.0")]
    assert [record.libraries for record in manifest.fragments] == expected
    read = store.finished_records("tables/pairs", ["web-0", "web-1"])
    assert [record.libraries for record in read.values()] == expected
    assert manifest.libraries == {"numpy": "1.0, 2.0", "scipy": "3.0"}
    shown = CliRunner().invoke(app, ["show", "pairs", "--store", str(tmp_path)]).output
    assert "libraries: numpy 1.0 and 2.0, scipy 3.0" in shown


def test_a_fragment_that_is_reused_keeps_its_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer library computes new fragments alone."""
    context = Context(Store(tmp_path), InProcess(), "test", "salt")

    def compute(version: str, *names: str) -> dict[str, Fragment]:
        monkeypatch.setattr(
            "curation.engine.fragment_writer.library_versions", lambda: {"numpy": version}
        )
        return context.compute("label", one_row, {name: {"value": name} for name in names})

    assert compute("1.0", "a")["a"].record.libraries == {"numpy": "1.0"}
    later = compute("2.0", "a", "b")
    versions = {name: table.record.libraries["numpy"] for name, table in later.items()}
    assert versions == {"a": "1.0", "b": "2.0"}


def one_row(value: str) -> StageOutput:
    yield pa.RecordBatch.from_pydict({"value": [value]})
    return {}
