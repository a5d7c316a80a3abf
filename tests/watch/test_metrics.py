"""The file of metrics is valid OpenMetrics and valid for Prometheus, and says what manifests say."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import RecipeError
from curation.runner.observer import RunObserver
from curation.runner.step import StepResult
from curation.store.run_record import new_run
from curation.telemetry.metrics import Metric, MetricsFile, Sample, exposition

from .conftest import RECIPE, Watch

OF_FILE = {("recipe", RECIPE), ("file", "run")}
"""Labels of every sample."""
Labels = frozenset[tuple[str, str]]
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
_SAMPLE = re.compile(
    rf"(?P<name>[a-zA-Z_:][\w:]*)\{{(?P<labels>{_LABEL}(?:,{_LABEL})*)?\}} (?P<v>\S+)"
)
_UNESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def parse(text: str) -> dict[str, dict[Labels, float]]:
    """Parse what both formats allow: gauges, each with its TYPE and HELP before its samples."""
    assert text.endswith("\n# EOF\n") or text == "# EOF\n"
    families: dict[str, dict[Labels, float]] = {}
    current, lines = "", text.split("\n")[:-2]
    for line in lines:
        if line.startswith("# TYPE "):
            current, kind = line.removeprefix("# TYPE ").split(" ")
            assert kind == "gauge" and current not in families
            # Suffixes that OpenMetrics keeps for other types.
            assert not current.endswith(
                ("_total", "_created", "_bucket", "_count", "_sum", "_info")
            )
            families[current] = {}
        elif line.startswith("# HELP "):
            assert line.split(" ")[2] == current and len(line.split(" ", 3)[3]) > 3
        else:
            match = _SAMPLE.fullmatch(line)
            assert match is not None, line
            assert match["name"] == current
            pairs = [
                (name, re.sub(r'\\[\\"n]', lambda m: _UNESCAPED[m[0]], value))
                for name, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match["labels"] or "")
            ]
            assert len({name for name, _ in pairs}) == len(pairs)
            labels = frozenset(pairs)
            assert labels not in families[current]
            families[current][labels] = float(match["v"])
    return families


@given(
    st.lists(st.tuples(st.text(max_size=8), st.floats(allow_nan=False)), unique_by=lambda p: p[0])
)
def test_any_label_and_number_is_read_back(values: list[tuple[str, float]]) -> None:
    samples = [Sample({"outcome": text}, value) for text, value in values]
    families = parse(exposition([Metric("x", "What it is.", samples)], {"recipe": 'a"\\\n'}))
    read = {dict(labels)["outcome"]: v for labels, v in families.get("curation_x", {}).items()}
    assert read == dict(values)
    assert all(dict(labels)["recipe"] == 'a"\\\n' for labels in families.get("curation_x", {}))


class States(RunObserver):
    """Reads the file whenever it was written; stands after the file among the observers."""

    def __init__(self, path: Path) -> None:
        self.path, self.read = path, [parse(path.read_text())]

    def run_started(self, *_: object) -> None:
        """Read the file."""
        self.read.append(parse(self.path.read_text()))

    def step_ended(self, result: StepResult) -> None:
        """Read the file."""
        self.read.append(parse(self.path.read_text()))

    def run_ended(self, error: BaseException | None) -> None:
        """Read the file."""
        self.read.append(parse(self.path.read_text()))


def state_of(families: dict[str, dict[Labels, float]]) -> str:
    states = {dict(k)["state"]: v for k, v in families["curation_run_state"].items()}
    assert sorted(states.values()) == [0, 0, 1]
    return max(states, key=states.__getitem__)


def test_each_stage_is_written_when_it_ends_and_says_what_its_manifests_say(
    tmp_path: Path, watch: Watch
) -> None:
    path = tmp_path / "run.prom"
    file = MetricsFile(str(path))
    states = States(path)
    results = watch(file, states)
    assert states.read[0] == {}
    assert [state_of(f) for f in states.read[1:]] == ["running"] * 4 + ["finished"]
    ended = [f["curation_run_stages_ended"][frozenset(OF_FILE)] for f in states.read[1:]]
    assert ended == [0, 1, 2, 3, 3]
    last = states.read[-1]
    for result in results:
        stage = {*OF_FILE, ("stage", result.step.name)}
        assert last["curation_stage_seconds"][frozenset(stage)] == result.seconds
        computed = frozenset({*stage, ("how", "computed")})
        assert last["curation_stage_fragments"][computed] == result.computed > 0
        for m in result.manifests:
            assert last["curation_table_rows"][frozenset({*stage, ("table", m.table)})] == m.rows
    outcomes = {
        outcome: last["curation_stage_outcome_rows"][
            frozenset(
                {
                    *(*OF_FILE, ("stage", "fetch"), ("table", "images")),
                    *(("role", "pool"), ("outcome", outcome)),
                }
            )
        ]
        for outcome in results[1].outcomes
    }
    assert outcomes == results[1].outcomes
    assert sorted(outcomes.values()) == [1, 3] and outcomes["ok"] == 3
    # A reader that takes every file of the folder sees this one alone.
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".prom")] == ["run.prom"]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_two_tasks_of_a_recipe_share_no_series(tmp_path: Path) -> None:
    """A collector that reads a folder of such files takes no series twice."""
    series = []
    for name in ("birds-ingest-fetch.prom", "birds-screen-assemble.prom", "vögel-\udcff.prom"):
        file = MetricsFile(str(tmp_path / name))
        file.run_started(new_run(RECIPE, "f", {}, []), [])
        file.run_ended(None)
        families = parse((tmp_path / name).read_text())
        series += [(family, labels) for family, samples in families.items() for labels in samples]
    assert len(set(series)) == len(series) > 20


def test_a_run_that_fails_says_so(tmp_path: Path, watch: Watch) -> None:
    path = tmp_path / "run.prom"
    with suppress(RuntimeError):
        watch(MetricsFile(str(path)), fail="fetch")
    families = parse(path.read_text())
    assert state_of(families) == "failed"
    assert {dict(k)["stage"] for k in families["curation_stage_seconds"]} == {"ingest"}


def test_a_clock_that_is_set_back_changes_no_time_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = MetricsFile(str(tmp_path / "run.prom"))
    file.run_started(new_run(RECIPE, "f", {}, []), [])
    monkeypatch.setattr(time, "time", lambda: 0.0)
    file.run_ended(None)
    (seconds,) = parse((tmp_path / "run.prom").read_text())["curation_run_seconds"].values()
    assert 0 <= seconds < 60


def test_a_file_that_cannot_be_written_is_an_error_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"--metrics: .*cannot be written: No such file"):
        MetricsFile(str(tmp_path / "none" / "run.prom"))
