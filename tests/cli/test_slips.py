"""Slips of people: each ends in one error with its place, what was found and what to do."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from curation.cli import app
from curation.cli.app import main
from curation.errors import CurationError, Detail
from quickstart.commands import default_port

from .conftest import Command, World


def refused(*words: object) -> Detail:
    """The first detail of the error that ends a command."""
    ended = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(ended.exception, CurationError), (words, ended.exception, ended.output)
    return ended.exception.details[0]


OF_STORES = [
    ["verify-store"],
    ["gc"],
    ["gc", "--dry-run"],
    ["tag"],
    ["tag", "v1"],
    ["restore", "v1"],
    ["versions", "images"],
    ["forget", "--prove"],
    ["forget", "--host", "a.example", "--by", "me", "--reason", "a request"],
]


@pytest.mark.parametrize("words", OF_STORES, ids=" ".join)
@pytest.mark.parametrize("kind", ["absent", "empty", "of pictures"])
def test_a_path_without_a_store_is_no_sound_store(
    words: list[str], kind: str, tmp_path: Path
) -> None:
    folder = tmp_path / "stroe"
    if kind != "absent":
        folder.mkdir()
    if kind == "of pictures":
        (folder / "photos").mkdir()
    before = sorted(tmp_path.rglob("*"))
    detail = refused(*words, "--store", folder)
    assert (detail.where, detail.found) == ("--store", str(folder))
    assert "there is no store" in detail.message and "Relative paths start at" in detail.fix
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["rows.csv", "rows.JSON", "rows.html"])
@pytest.mark.parametrize(
    "words",
    [
        ["sql", "s", "FROM images"],
        ["diff", "s", "s"],
        ["search", "r.yaml", "--store", "s", "--id", "x"],
    ],
    ids=lambda words: words[0],
)
def test_parquet_gets_no_name_of_another_format(
    words: list[str], name: str, tmp_path: Path
) -> None:
    detail = refused(*words, "--out", tmp_path / name)
    assert (detail.where, detail.found) == ("--out", str(tmp_path / name))
    assert ".parquet" in detail.fix


@pytest.mark.parametrize("name", ["good.pt", "good"])
def test_a_head_gets_a_name_that_recipes_load(name: str) -> None:
    detail = refused("train-filter", "r.yaml", "--store", "s", "--labels", "l", "--out", name)
    assert (detail.where, detail.found) == ("--out", name)
    assert "'good.safetensors'" in detail.fix


@pytest.mark.parametrize("option", ["--rates", "--prices", "--assume"])
def test_options_of_a_cost_need_the_cost(option: str, world: World) -> None:
    detail = refused("plan", world.recipe, option, "fetched=1")
    assert (detail.where, detail.fix) == (option, "Add --cost")


def write_queries(folder: Path) -> None:
    """Write files that are no vectors to search with."""
    vectors = np.ones((2, 192), np.float32)
    np.savez(folder / "several.npz", vectors=vectors)
    np.save(folder / "none.npy", vectors[:0])
    (folder / "empty.npy").write_bytes(b"")
    (folder / "text.npy").write_text("1 2 3")
    pq.write_table(pa.table({"vector": [[1.0]]}), folder / "table.parquet")
    (folder / "text.jpg").write_text("no picture")


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("--image", "absent.jpg", "No such file"),
        ("--image", ".", "Is a directory"),
        ("--image", "text.jpg", "cannot be decoded"),
        ("--vectors", "absent.npy", "there is no file"),
        ("--vectors", ".", "Is a directory"),
        ("--vectors", "several.npz", "no .npy file"),
        ("--vectors", "none.npy", "n at least 1"),
        ("--vectors", "empty.npy", "no .npy file"),
        ("--vectors", "text.npy", "no .npy file"),
        ("--vectors", "table.parquet", "no .npy file"),
    ],
)
def test_a_search_with_another_file(
    option: str, name: str, words: str, world: World, tmp_path: Path
) -> None:
    write_queries(tmp_path)
    detail = refused("search", world.recipe, "--store", world.store, option, tmp_path / name)
    assert words in detail.message, detail
    assert detail.fix and (detail.where in (option, str(tmp_path / name))), detail


def without_pixels(folder: Path, **encoder: Any) -> Path:
    """Write a recipe with imported vectors, and a list of two rows."""
    (folder / "list.csv").write_text("id\na\nb\n")
    source = {"name": "web", "role": "pool", "format": "csv", "path": str(folder / "list.csv")}
    spec = {
        "name": "mine",
        "sources": [source | {"columns": {"key": "id"}}],
        "fetch": {"pixels": "none"},
        "embed": {"encoders": {"semantic": encoder}},
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def test_errors_of_vectors_have_their_fields(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((2, 4), np.float32))
    np.save(tmp_path / "ids.npy", np.array(["a", "a"]))
    ids = {"join": "key", "file": str(tmp_path / "ids.npy")}
    recipe = without_pixels(tmp_path, **{"import": str(tmp_path / "v.npy"), "ids": ids})
    detail = refused("run", recipe, "--store", tmp_path / "store")
    assert detail.where == "embed.encoders.semantic"
    assert detail.fix == "Keep one vector for each id"


def test_check_names_each_problem_once(tmp_path: Path) -> None:
    source = {"role": "pool", "format": "folder"}
    spec = {
        "name": "mine",
        "sources": [source | {"name": n, "path": str(tmp_path / n)} for n in ("one", "two")],
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(spec))
    ended = CliRunner().invoke(app, ["check", str(tmp_path / "mine.yaml"), "--json"])
    problems = json.loads(ended.stdout)["problems"]
    assert ended.exit_code == 2
    assert len(problems) == 2
    assert [name for name in ("one", "two") for p in problems if f"'{name}'" in p] == ["one", "two"]


def test_rows_limits_what_is_written_too(command: Command, world: World, tmp_path: Path) -> None:
    every = command("sql", world.store, "FROM pairs")
    assert len(every) > 2 == len(command("sql", world.store, "FROM pairs", "-n", 2))
    path = tmp_path / "rows.parquet"
    words = ["sql", str(world.store), "FROM pairs", "--out", str(path)]
    assert CliRunner().invoke(app, [*words, "-n", "3"]).exit_code == 0
    assert pq.read_metadata(path).num_rows == 3
    assert CliRunner().invoke(app, words).exit_code == 0
    assert pq.read_metadata(path).num_rows == len(every)


@pytest.mark.parametrize("value", ["abc", "0", "65536", "-1", "80.5"])
def test_a_port_that_is_none_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTART_PORT", value)
    with pytest.raises(ValueError, match=r"QUICKSTART_PORT is .* a number from 1 to 65535"):
        default_port()
    monkeypatch.setenv("QUICKSTART_PORT", "")
    assert default_port() == 8765


@pytest.mark.parametrize(
    ("content", "where", "words"),
    [
        (b"mastr: local[2]\n", "mastr", "did you mean 'master'"),
        (b"conf: 7\n", "conf", "mapping"),
        (b"conf: {spark.executor.memory: }\n", "conf.spark.executor.memory", "Write a text"),
        (b"conf: {driver.memory: 8g}\n", "conf.driver.memory", "Spark ignores it"),
        (b"conf: {'spark.driver.memory ': 8g}\n", "conf.spark.driver.memory ", "no blanks"),
        (b"conf: {spark.master: yarn}\n", "conf.spark.master", "Write it as `master`"),
        (b"master: local[2] # caf\xe9\n", "", "can't decode"),
        (b"- a\n", "", "mapping"),
    ],
)
def test_a_file_of_a_cluster_is_explained_as_a_recipe_is(
    content: bytes, where: str, words: str, world: World, tmp_path: Path
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_bytes(content)
    detail = refused("run", world.recipe, "--store", world.store, "--cluster", path)
    assert detail.where == f"{path}: {where}".removesuffix(": ")
    assert words in str(detail) and "pydantic.dev" not in str(detail)


def test_a_mistyped_table_of_a_query_is_looked_for_among_the_tables(world: World) -> None:
    detail = refused("sql", world.store, "FROM imagez JOIN pairs USING (pair_id)")
    assert (detail.where, detail.found) == ("query", "imagez")
    assert "images" in detail.valid and "did you mean 'images'?" in str(detail)


@pytest.mark.parametrize(
    ("query", "fix"),
    [
        ("SELECT capton FROM pairs", "`DESCRIBE TABLE` lists the columns of a table"),
        ("SELEC 1", "Write a statement of DuckDB"),
        ("FROM 'images.parquet'", "A query reads the tables of the store alone"),
    ],
)
def test_a_query_that_is_wrong_says_what_to_do(query: str, fix: str, world: World) -> None:
    detail = refused("sql", world.store, query)
    assert detail.where == "query" and detail.fix.startswith(fix), detail


@pytest.mark.parametrize("words", [["show", "images"], ["path", "images"], ["opt-outs"]])
def test_a_store_that_is_not_there_is_to_be_checked(words: list[str], tmp_path: Path) -> None:
    detail = refused(*words, "--store", tmp_path / "stroe")
    assert detail.fix.startswith("Check the path of the store")


def test_an_unknown_option_lists_those_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["curation", "sql", "--store", "s", "FROM images", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    error = json.loads(capfd.readouterr().err)
    assert (ended.value.code, error["where"]) == (2, "--store")
    assert {"--recipe", "--run", "--rows", "--out"} <= set(error["valid"])
    assert re.search(r"sql \[OPTIONS\] .*STORE.* \[SQL\]", error["fix"]), error


@pytest.mark.parametrize(
    ("ids", "labels", "words"),
    [
        (["\u00e9\u00e9", "b"], [0, 1], "1 values are no image_id, for example '\u00e9\u00e9'"),
        ([None, "b"], [0, 1], "1 values are no image_id, for example None"),
        ([1, 2], [0, 1], "2 values are no image_id, for example 1"),
        (["a" * 64, "b"], [0, 1], "1 values are no image_id"),
        (["a", "b"], ["0", "1"], "2 labels are neither 0 nor 1, for example '0'"),
        (["a", "b"], [0, None], "1 labels are neither 0 nor 1"),
    ],
)
def test_labels_of_another_kind(
    ids: list[Any], labels: list[Any], words: str, world: World, tmp_path: Path
) -> None:
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"image_id": ids, "label": labels}), path)
    words_of_command = ["train-filter", world.recipe, "--store", world.store, "--labels", path]
    detail = refused(*words_of_command, "--out", tmp_path / "head.safetensors")
    assert detail.where == "--labels" and words in detail.message and detail.fix


CONTRADICTIONS = [
    (["show", "images", "--version", "a", "--run", "b"], "--run"),
    (["path", "images", "--version", "a", "--run", "b"], "--run"),
    (["tag", "v1", "--delete", "--run", "a"], "--run"),
    (["gc", "--keep", "2", "--older-than", "3d"], "--keep"),
    (["run", "RECIPE", "--force", "--retry", "all"], "--retry"),
    (["run", "RECIPE", "--only", "fetch", "--until", "fetch"], "--until"),
    (["run", "RECIPE", "--only", "screen", "--retry", "all"], "--retry"),
    (["run", "RECIPE", "--spark-ui", "--cluster", "yarn"], "--spark-ui"),
]


@pytest.mark.parametrize(("words", "option"), CONTRADICTIONS, ids=" ".join)
def test_an_option_that_cannot_take_effect_is_refused(
    words: list[str], option: str, world: World
) -> None:
    words = [str(world.recipe) if word == "RECIPE" else word for word in words]
    detail = refused(*words, "--store", world.store)
    assert detail.where == option and detail.fix


@pytest.mark.parametrize("words", [["--json"], ["--out", "rows.parquet"]], ids=" ".join)
def test_the_shell_of_queries_writes_no_file_and_no_json(
    words: list[str], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.cli.sql_command._is_shell", lambda query: query is None)
    detail = refused("sql", world.store, *words)
    assert detail.where == words[0] and "query" in detail.fix


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["show", "images", "--store", "s", "--run", ""], "--run"),
        (["tag", "v1", "--store", "s", "--run="], "--run"),
        (["run", "r.yaml", "--store", ""], "--store"),
        (["restore", "", "--store", "s"], ""),
    ],
    ids=str,
)
def test_a_variable_of_the_shell_that_is_not_set_is_refused(
    words: list[str],
    option: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Otherwise `tag v1 --run "$RUN"` would tag the latest run."""
    monkeypatch.setattr(sys, "argv", ["curation", *words, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    error = json.loads(capfd.readouterr().err)
    assert (ended.value.code, error["where"] or "") == (2, option)
    assert "empty value" in error["message"]


@pytest.mark.parametrize("option", ["--cluster", "--metrics", "--openlineage-parent"])
def test_what_is_wrong_with_options_is_said_before_the_store_is_verified(
    option: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.launch.verify_store", lambda *_: pytest.fail("verified"))
    words = ["run", world.recipe, "--store", world.store, "--verify", option, "no/such/thing"]
    assert refused(*words).where == option


def test_a_run_is_named_by_its_tag_everywhere(world: World, command: Command) -> None:
    store = str(world.store)
    command("tag", "paper-1", "--store", store)
    for words in (
        ["show", "images", "--store", store],
        ["path", "images", "--store", store],
        ["status", "--store", store],
        ["sql", store, "FROM images"],
        ["why", "p1", "--store", store],
        ["opt-outs", "--store", store],
        ["report", str(world.recipe), "--store", store],
    ):
        assert command(*words, "--run", "paper-1") == command(*words, "--run", world.run), words
    command("diff", f"{store}@paper-1", store)
    assert "curation tag" in refused("show", "images", "--store", store, "--run", "paper-2").fix
