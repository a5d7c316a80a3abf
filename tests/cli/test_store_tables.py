"""What people copy from the tables of a store is whole, however narrow they are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.engine.table import open_table
from curation.store.manifest import Committed
from curation.store.run_log import recorded_run
from curation.store.store import Store, manifest_path

from ..tables import commit
from .conftest import World


@pytest.mark.parametrize("words", [["runs"], ["versions", "images"]])
def test_names_of_runs_and_versions_are_not_cut(words: list[str], world: World) -> None:
    done = CliRunner().invoke(app, [*words, "--store", str(world.store)])
    assert done.exit_code == 0
    assert world.run in done.output
    version = open_table(Store(world.store), "images").manifest.version
    assert words == ["runs"] or version in done.output
    assert "…" not in done.output


def test_a_histogram_is_shown_in_the_order_of_its_numbers(world: World) -> None:
    for options in ([], ["--json"]):
        shown = CliRunner().invoke(app, ["show", "copies", "--store", str(world.store), *options])
        assert shown.exit_code == 0
        sizes = re.search(r"sizes\"?: \{(.*?)\}", shown.output, re.DOTALL)
        assert sizes is not None
        first = [int(number) for number in re.findall(r"[\"'](\d+)", sizes[1])]
        assert first == [1, 2, 3, 4, 5, 9, 17, 33, 65, 129, 1025]


def test_versions_of_which_none_can_be_read_are_not_said_to_be_missing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit(store, "matches", {"web-0": []})
    (version,) = store.versions("matches")
    listed = CliRunner().invoke(app, ["versions", "matches", "--store", str(tmp_path)])
    assert version in listed.output
    (tmp_path / manifest_path("matches", version)).write_bytes(b"damaged")
    damaged = CliRunner().invoke(app, ["versions", "matches", "--store", str(tmp_path)])
    assert "no version of table matches that can be read" in damaged.output
    none = CliRunner().invoke(app, ["versions", "copies", "--store", str(tmp_path)])
    assert "no version of table copies." in none.output


def test_it_is_said_whose_table_is_meant_where_several_recipes_have_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit(store, "matches", {"web-0": []})
    table = {"matches": Committed(store.versions("matches")[0], "", {})}
    words = ["path", "matches", "--store", str(tmp_path)]
    for recipe, said in (("hand", ""), ("dogs", "of recipe dogs. For that of hand name a")):
        with recorded_run(store, recipe, "f") as run:
            run.use(table, "step")
        printed = CliRunner().invoke(app, words).stderr
        assert said in " ".join(printed.split()) and bool(said) == bool(printed)
    assert CliRunner().invoke(app, [*words, "--run", run.record.run]).stderr == ""


@pytest.mark.parametrize("count", [0, 1, 4, 7, 8, 2**63])
def test_show_prints_the_first_rows_of_all_files(count: int, tmp_path: Path) -> None:
    matches = [
        {"seed_set": "cats", "seed_image_id": "0" * 32, "image_id": f"{n:032x}", "rank": n + 1}
        | {"similarity": 0.5}
        for n in range(9)
    ]
    parts = {"web-0": matches[:7], "web-1": matches[7:]}
    commit(Store(tmp_path), "matches", parts, rows_per_file=3)
    shown = CliRunner().invoke(
        app, ["show", "matches", "--store", str(tmp_path), "-n", str(count), "--json"]
    )
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["sample"] == matches[:count]
