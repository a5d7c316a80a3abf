"""The options by which a run tells what it does: what they open, and what is refused."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from curation.cli import app, jobs
from curation.cli.telemetry_options import PARENT_VARIABLE, TARGET_VARIABLE, TelemetryOptions
from curation.engine.cluster import Cluster, load_cluster, with_ui
from curation.engine.spark import submitted_settings
from curation.errors import CurationError, RecipeError
from curation.store.store import Store
from scripts.reference.commands import commands_page


def kinds(telemetry: TelemetryOptions, folder: Path, **spark: str) -> list[str]:
    """The kinds of observers that some options give."""
    observers = telemetry.observers(Store(folder / "store"), spark)
    return [type(observer).__name__ for observer in observers]


def test_each_option_adds_an_observer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, events = str(tmp_path / "m.prom"), str(tmp_path / "events.jsonl")
    parent = f"airflow/dag.task/{uuid4()}"
    assert kinds(TelemetryOptions(), tmp_path) == ["LogFields"]
    assert kinds(TelemetryOptions(metrics=file), tmp_path) == ["LogFields", "MetricsFile"]
    with_events = TelemetryOptions(openlineage=events, parent=parent)
    assert kinds(with_events, tmp_path) == ["LogFields", "LineageEvents"]
    monkeypatch.setenv(TARGET_VARIABLE, events)
    assert kinds(TelemetryOptions(parent=parent), tmp_path) == ["LogFields", "LineageEvents"]
    monkeypatch.setenv(PARENT_VARIABLE, "no parent")
    with pytest.raises(RecipeError, match="'no parent' is no parent"):
        kinds(TelemetryOptions(), tmp_path)


@pytest.mark.parametrize(
    ("telemetry", "words"),
    [
        (TelemetryOptions(parent=f"a/b/{uuid4()}"), "no effect without --openlineage"),
        (TelemetryOptions(openlineage="events.jsonl", parent="x"), "NAMESPACE/JOB/RUN-ID"),
        (TelemetryOptions(openlineage="ftp://host/x"), "path of a local file"),
        (TelemetryOptions(metrics="no/folder/m.prom"), "in a folder that exists"),
    ],
)
def test_what_has_no_effect_or_no_place_is_refused(
    telemetry: TelemetryOptions, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=words):
        kinds(telemetry, tmp_path)


@pytest.mark.parametrize("option", ["metrics", "openlineage"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_no_mistake_of_the_command_line(
    option: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow does not try again what the command line is to blame for."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_text", fail)
    monkeypatch.setattr(Path, "open", fail)
    telemetry = TelemetryOptions(**{option: str(tmp_path / "file")})
    passes = nullcontext() if number != errno.EROFS else pytest.raises(RecipeError)
    with passes:
        assert len(kinds(telemetry, tmp_path)) == 2


REFUSED = [["no.yaml"], ["bad.yaml"], ["good.yaml", "--until", "nothing"]]
"""Recipes and options that are refused at once."""


@pytest.mark.parametrize("refused", REFUSED, ids=" ".join)
@pytest.mark.parametrize("is_job", [False, True])
def test_a_recipe_that_is_refused_leaves_no_metrics_of_an_earlier_run(
    is_job: bool, refused: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = "sources: [{name: web, role: pool, format: folder, path: photographs}]\n"
    Path("bad.yaml").write_text(f"name: birds\nsceen: {{}}\n{source}")
    Path("good.yaml").write_text(f"name: birds\n{source}")
    file = Path("run.prom")
    file.write_text('curation_run_state{recipe="birds",state="finished"} 1.0\n# EOF\n')
    recipe, *options = refused
    options += ["--store", "store", "--metrics", str(file)]
    with pytest.raises(RecipeError):
        if is_job:
            jobs._run(jobs._parser(None).parse_args(["--recipe", recipe, *options]))
        else:
            CliRunner().invoke(app, ["run", recipe, *options], catch_exceptions=False)
    assert file.read_text() == "# EOF\n"


def test_the_page_of_spark_is_for_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_LOCAL_IP", "192.0.2.2")
    page: dict[str, Any] = with_ui(load_cluster("local")).conf
    assert page["spark.ui.enabled"] is True
    assert page["spark.driver.bindAddress"] == page["spark.driver.host"] == "127.0.0.1"
    assert os.environ["SPARK_LOCAL_IP"] == "127.0.0.1"
    for cluster in (Cluster(), load_cluster("yarn"), Cluster(master="spark://h:7077")):
        with pytest.raises(RecipeError, match="--spark-ui: the page is for runs on this machine"):
            with_ui(cluster)


def test_without_spark_submit_there_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    assert submitted_settings() == {}


def descendants(kind: type[CurationError]) -> Iterator[type[CurationError]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


def test_every_exit_status_is_documented() -> None:
    page = commands_page().partition("## Exit statuses")[2]
    documented = {int(status) for status in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    ours = {
        kind.exit_status for kind in descendants(CurationError) if "curation." in kind.__module__
    }
    assert documented == {0, CurationError.exit_status, *ours}
