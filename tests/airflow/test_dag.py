"""A DAG for each recipe: its tasks share sessions, and its runs do what their parameters ask for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import load_recipe
from curation.store.run_log import read_runs
from curation.store.store import Store

from ..e2e.conftest import dataset_rows
from ..e2e.small import build_small

Read = Callable[..., dict[str, Any]]
GPUS = {"gpus": True, "conf": {}}
SHARED_SESSIONS = """
from curation.airflow import curation_dag
dag = curation_dag("apart", recipe={recipe!r}, store="store", sessions="steps", schedule="@weekly")
whole = curation_dag("whole", recipe={recipe!r}, store="store", sessions="run")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recipes: a small one, one that is broken, one without arms, and one with its name
    and the ending of DAGs for crawls."""
    folder = tmp_path_factory.mktemp("dags")
    spec = build_small(folder / "recipes" / "web")
    # Relative to the recipe, wherever Airflow runs.
    for source in spec["sources"]:
        source["path"] = str(Path(source["path"]).relative_to(folder / "recipes"))
    recipes = {"small": spec, "broken": spec | {"sources": []}}
    recipes["armless"] = {k: v for k, v in spec.items() if k != "retrieve"} | {"name": "armless"}
    recipes["clash"] = recipes["armless"] | {"name": "armless-crawl"}
    for name, recipe in recipes.items():
        (folder / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    # As macOS leaves them on other file systems.
    (folder / "recipes" / "._small.yaml").write_bytes(b"\0\5\x16\7")
    (folder / "gpus.yaml").write_text(yaml.safe_dump(GPUS))
    return folder


@pytest.fixture(scope="module")
def read(airflow: Read, folder: Path) -> Read:
    """Reads the DAG files with the recipes of the folder."""
    variables = {
        "CURATION_RECIPES": str(folder / "recipes"),
        "CURATION_STORE": str(folder / "store"),
    }
    return lambda *runs, **more: airflow(*runs, **variables | more)


def test_each_recipe_is_a_dag_and_a_broken_one_is_one_import_error(
    read: Read, folder: Path
) -> None:
    dags = read()
    crawls = {"small-crawl", "armless-crawl-crawl"}
    assert set(dags["dags"]) == {"small", "armless", "armless-crawl", *crawls}
    assert dags["dags"]["armless-crawl"]["schedule"] != "AssetOrTimeSchedule"
    assert {Path(file).name for file in dags["import_errors"]} == {"curation.py", "crawls.py"}
    for file, message in dags["import_errors"].items():
        assert message.startswith("RecipeError: ")
        assert str(folder / "recipes" / "broken.yaml") in message
        assert "sources" in message
        assert "Traceback" not in message
        assert "._small" not in message
        assert ("'armless-crawl'" in message) == file.endswith("crawls.py")
    small = dags["dags"]["small"]
    assert small["tasks"] == ["ingest-fetch", "screen-assemble"]
    assert small["edges"] == [["ingest-fetch", "screen-assemble"]]
    assert small["params"] == {
        "recipe": str(folder / "recipes" / "small.yaml"),
        "store": str(folder / "store"),
        "cluster": "local",
        "from": None,
        "until": None,
        "retry": None,
        "force": False,
    }
    assert small["max_active_runs"] == 1
    assert small["retries"] == {
        task: {
            "retries": 3,
            "retry_delay": 60,
            "retry_exponential_backoff": True,
            "max_retry_delay": 1800,
            "execution_timeout": 259_200,
        }
        for task in small["tasks"]
    }
    assert small["refuse_a_number"] == [*small["params"]]
    assert dags["dags"]["armless"]["tasks"] == ["ingest-fetch", "screen-assemble"]
    assert dags["dags"]["small-crawl"]["schedule"] == "AssetOrTimeSchedule"
    # By the event of new lists, and the recipe's own DAG by nothing.
    assert dags["dags"]["small-crawl"]["started_by"] == ["crawl-small"]
    assert dags["dags"]["armless-crawl-crawl"]["started_by"] == ["crawl-armless-crawl"]
    assert small["started_by"] == []
    assert [dags["dags"][name]["paused"] for name in ("small", "small-crawl")] == [None, True]


def test_gpus_divide_the_tasks_and_steps_may_be_apart(
    read: Read, folder: Path, tmp_path: Path
) -> None:
    recipe = str(folder / "recipes" / "small.yaml")
    (tmp_path / "dags.py").write_text(SHARED_SESSIONS.format(recipe=recipe))
    dags = read(AIRFLOW__CORE__DAGS_FOLDER=str(tmp_path))["dags"]
    apart = dags["apart"]
    assert dags["whole"]["tasks"] == ["ingest-assemble"]
    steps = plan(load_recipe(recipe))
    assert apart["edges"] == sorted([u, s.name] for s in steps for u in s.upstream)
    on_gpus = read(CURATION_CLUSTER=str(folder / "gpus.yaml"))["dags"]["small"]
    stages = {s.name: s.stage for s in steps}
    for task, pool in on_gpus["pools"].items():
        first, _, last = task.partition("-")
        names = list(stages)[list(stages).index(first) : list(stages).index(last or first) + 1]
        uses = {stages[name].gpu for name in names}
        assert len(uses) == 1
        assert pool == ("curation_gpu" if uses == {True} else "default_pool")


def test_runs_do_what_their_parameters_ask_for(read: Read, folder: Path) -> None:
    other, telemetry = str(folder / "other"), folder / "telemetry"
    telemetry.mkdir()
    dags = read(
        ("small", {}),
        ("small", {"store": other, "until": "fetch"}),
        ("small", {"store": other, "until": "screen"}),
        ("small", {"stor": other}),
        ("small", {"from": "select", "until": "fetch"}),
        ("small", {"from": "select", "retry": "transient"}),
        ("small", {"force": True, "retry": "transient"}),
        ("small", {"recipe": str(folder / "recipes" / "broken.yaml")}),
        CURATION_METRICS=str(telemetry),
        CURATION_OPENLINEAGE=str(telemetry / "events.jsonl"),
        CURATION_LOG_FORMAT="json",
    )
    whole, part, more, unknown, backwards, vain, doubled, broken = dags["runs"]
    done = {"ingest-fetch": "success", "screen-assemble": "success"}
    assert whole["states"] == done
    assert part["states"] == {"ingest-fetch": "success", "screen-assemble": "skipped"}
    assert more["states"] == done
    # Who waits for a dataset is not started by a run that makes none.
    assert part["events"] == more["events"] == []
    for failed in (unknown, backwards, vain, doubled, broken):
        assert "success" not in failed["states"].values()
        assert "failed" in failed["states"].values()
    store = Store(folder / "store")
    dataset = open_table(store, "dataset")
    stages = [s["stage"] for task in done for s in whole["values"][task]["stages"]]
    assert stages == [step.name for step in plan(load_recipe(folder / "recipes" / "small.yaml"))]
    for stage in whole["values"]["ingest-fetch"]["stages"]:
        line = f"{stage['stage']}: {stage['rows']:,} rows in {stage['seconds']} s ("
        assert line in dags["output"]
        assert all(address in dags["output"] for address in stage["tables"].values())
    (event,) = whole["events"]
    assert event["version"] == dataset.manifest.version
    assert event["rows"] == dataset.rows > 20
    assert Path(event["report"]).is_file()
    assert event["shortfalls"] == whole["values"]["screen-assemble"]["shortfalls"]
    fetched = whole["values"]["ingest-fetch"]["stages"][1]
    assert fetched["outcomes"]["not_an_image"] == 1
    assert sum(fetched["outcomes"].values()) == fetched["rows"]
    stages_of_others = [r.stages for r in read_runs(Store(other))]
    assert stages_of_others == [("screen",), ("ingest", "fetch"), ("ingest", "fetch")]
    for task in done:
        metrics = (telemetry / f"small-{task}.prom").read_text()
        labels = f'recipe="small",file="small-{task}",state="finished"'
        assert f"curation_run_state{{{labels}}} 1" in metrics
    events = [json.loads(line) for line in (telemetry / "events.jsonl").read_text().splitlines()]
    complete = {e["job"]["name"] for e in events if e["eventType"] == "COMPLETE"}
    assert {f"small.{stage}" for stage in stages} <= complete
    # The command line makes the same dataset.
    command = [sys.executable, "-m", "curation", "run", "small.yaml", "--store", "../second"]
    subprocess.run(command, cwd=folder / "recipes", check=True, timeout=400)
    assert dataset_rows(folder / "store") == dataset_rows(folder / "second")


def test_a_form_of_logs_that_does_not_exist_is_an_import_error(read: Read) -> None:
    errors = read(CURATION_LOG_FORMAT="yaml")["import_errors"]
    assert errors and all("CURATION_LOG_FORMAT" in message for message in errors.values())


@pytest.mark.parametrize("schedule", ["@wekly", "0 0 30 2 *"])
def test_a_schedule_that_never_comes_is_an_import_error_of_the_crawls_alone(
    read: Read, schedule: str
) -> None:
    dags = read(CURATION_CRAWL_SCHEDULE=schedule)
    (message,) = (m for f, m in dags["import_errors"].items() if f.endswith("crawls.py"))
    assert "CURATION_CRAWL_SCHEDULE" in message and repr(schedule) in message
    assert {"small", "armless"} <= set(dags["dags"])


def test_variables_that_are_set_to_nothing_are_not_set(read: Read) -> None:
    optional = ("CLUSTER", "HOME", "VENV", "CRAWL_SCHEDULE", "METRICS", "OPENLINEAGE", "LOG_FORMAT")
    dags = read(**{f"CURATION_{name}": "" for name in optional})["dags"]
    assert dags["small"]["params"]["cluster"] == "local"
    assert "small-crawl" in dags


PLUGIN = """
from curation.stages.screen.filters import FilterEntry
from curation.stages.screen.filters.base import Filter

FILTERS = {"marks": FilterEntry(module=f"{__name__}:Marks")}


class Marks:
    FILTER = Filter("Marks", "marks", "int32", "at_most: 1", len)
"""
ACCOUNT_KEY = "spark.hadoop.fs.azure.account.key.a.dfs.core.windows.net"
SUBMIT = """#!/bin/sh
for argument; do case "$argument" in */spark.properties) cat "$argument";; esac; done >> submitted
echo "$@" >> submitted
"""


def test_paths_start_at_the_folder_of_the_recipe_and_the_cluster_file_counts_whole(
    read: Read, folder: Path, tmp_path: Path
) -> None:
    """A plug-in, a cluster and its secret beside the recipe, wherever Airflow runs."""
    spec = yaml.safe_load((folder / "recipes" / "small.yaml").read_text())
    (tmp_path / "marks_of_mine.py").write_text(PLUGIN)
    (tmp_path / "secret").write_text("a-long-random-text")
    (tmp_path / "secret").chmod(0o600)
    clusters = {
        "here": {"master": "local[3]", "conf": {}},
        "there": {
            "master": "spark://127.0.0.1:7",
            "secret_file": "../secret",
            "conf": {"spark.authenticate": True, ACCOUNT_KEY: "a key=\\1"},
        },
    }
    for name, cluster in clusters.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(cluster))
    recipes = tmp_path / "recipes.d"
    recipes.mkdir()
    recipe = spec | {"name": "plugged", "plugins": ["../marks_of_mine.py"]}
    (recipes / "plugged.yaml").write_text(yaml.safe_dump(recipe))
    submit = tmp_path / "environment" / "bin" / "spark-submit"
    submit.parent.mkdir(parents=True)
    submit.write_text(SUBMIT)
    submit.chmod(0o755)
    dags = read(
        ("plugged", {"until": "fetch"}),
        ("plugged", {"until": "fetch", "recipe": "plugged.yaml", "cluster": "../there.yaml"}),
        CURATION_RECIPES=str(recipes),
        CURATION_CLUSTER="../here.yaml",
        CURATION_VENV=str(tmp_path / "environment"),
    )
    assert dags["import_errors"] == {}
    assert [run["states"]["ingest-fetch"] for run in dags["runs"]] == ["success", "success"]
    here, key, secret, there = (recipes / "submitted").read_text().splitlines()
    # The attempts that Spark makes of a task, as on the command line.
    assert "--master local[3,4]" in here
    assert key == rf"{ACCOUNT_KEY}=a\ key\=\\1"
    assert secret == "spark.authenticate.secret=a-long-random-text"
    assert "--master spark://127.0.0.1:7" in there and "--load-spark-defaults" in there
    assert "--properties-file" not in here
    for shown in there, dags["output"]:
        assert "a-long-random-text" not in shown and "a key=" not in shown
    for line in here, there:
        assert f"--recipe {recipes}/plugged.yaml" in line


@pytest.mark.parametrize("variable", ["CURATION_HOME", "CURATION_VENV"])
def test_a_place_without_the_project_is_said_and_not_tried_again(
    read: Read, tmp_path: Path, variable: str
) -> None:
    dags = read(("small", {"store": str(tmp_path / "store")}), **{variable: str(tmp_path)})
    (run,) = dags["runs"]
    assert run["states"]["ingest-fetch"] == "failed"
    assert f"There is no {tmp_path}" in dags["output"]
    assert f"set {variable} in the environment of Airflow" in dags["output"]


def test_a_task_that_is_killed_ends_its_driver(in_airflow: Callable[..., str]) -> None:
    assert "RESULT ended" in in_airflow(str(Path(__file__).with_name("kill_task.py")))


def test_what_would_fail_again_is_not_tried_again(in_airflow: Callable[..., str]) -> None:
    """An invalid recipe (2), a dataset that is not as expected (4); also of a driver in a cluster."""
    printed = in_airflow(str(Path(__file__).with_name("final_errors.py")))
    assert "RESULT 0 1 0 1 0 0 0 1 0" in printed
