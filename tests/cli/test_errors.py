"""Errors say where, what was found, what is valid and how to mend it: as text, and as JSON."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from curation.cli.app import main
from curation.cli.errors import end_with_bug
from curation.cli.facts.errors import Error
from curation.cli.signals import Terminated
from curation.errors import (
    MAX_TEXT,
    BoundsError,
    ContractError,
    CurationError,
    Detail,
    ExpectationError,
    RecipeError,
    StoreError,
    WorkerError,
    note_request_to_end,
    reason_of_end,
    unknown,
)
from curation.recipe import load_recipe
from curation.secrets import note_secrets
from curation.store.run_log import describe_failure
from curation.telemetry.openlineage import error_facet
from tests.test_terminal import acting

from .conftest import World

Run = Callable[..., tuple[int, str, str]]
TEXTS = st.text(max_size=20)
DETAILS = st.builds(
    Detail,
    message=st.text(min_size=1, max_size=20),
    where=TEXTS,
    found=st.none() | st.integers() | st.floats() | TEXTS | st.lists(TEXTS) | st.binary(),
    valid=st.lists(TEXTS, max_size=4),
    fix=TEXTS,
)
KINDS = [CurationError, RecipeError, BoundsError, ExpectationError, ContractError, StoreError]


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.lists(DETAILS, min_size=1, max_size=3), TEXTS)
def test_any_error_is_json_and_survives_a_process(
    kind: type[CurationError], details: list[Detail], within: str
) -> None:
    error = kind(*details, within=within)
    spec = json.loads(json.dumps(error.to_json(), allow_nan=False))
    read = Error.model_validate(spec)
    assert (read.error, read.exit_status) == (kind.__name__, kind.exit_status)
    assert (read.where, read.valid, read.fix) == (
        read.details[0].where,
        read.details[0].valid,
        read.details[0].fix,
    )
    assert all(detail.message in str(error) for detail in details if not detail.valid)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) and json.dumps(copy.to_json()) == json.dumps(error.to_json())


def test_an_error_with_more_fields_survives_a_process() -> None:
    copy = pickle.loads(pickle.dumps(WorkerError("no memory", task=7)))
    assert (str(copy), copy.task) == ("no memory", 7)


class Gone(Exception):
    """Of Java, which has ended: it took the text with it."""

    def __str__(self) -> str:
        raise ConnectionError("no Java")


def test_who_was_asked_to_end_has_no_other_reason() -> None:
    """Java, which got the signal too, fails in some way."""
    error = WorkerError("Java has ended")
    assert reason_of_end(error) is error
    note_request_to_end(Terminated(15))
    try:
        assert describe_failure(error) == "Terminated"
    finally:
        note_request_to_end(None)
    assert describe_failure(error) == "Java has ended"


def test_an_error_whose_text_is_gone_is_told_by_its_kind() -> None:
    assert error_facet(Gone())["message"] == "Gone"
    assert end_with_bug(Gone()) == 1


def test_text_follows_from_the_fields() -> None:
    detail = unknown("stage", "embd", ["fetch", "embed"], where="--until", fix="Mend it")
    text = "--until: unknown stage 'embd' (did you mean 'embed'?). Valid: fetch, embed. Mend it."
    assert str(detail) == text
    assert detail.to_json()["fix"] == "Mend it"
    assert unknown("stage", "embd", ["embed"]).to_json()["fix"] == "Did you mean 'embed'?"
    assert str(unknown("arm", "x", [])) == "unknown arm 'x'; there is none"


def test_the_text_says_once_what_several_details_say_to_do() -> None:
    start = "Relative paths start at '/here'"
    error = RecipeError(
        Detail("no file 'a'", "heads.a", fix=start),
        Detail("no file 'b'", "web", fix=f"Set `path`. {start}."),
        Detail("no file 'c'", "faces", fix=start),
        within="birds",
    )
    assert str(error) == (
        "birds:\n  heads.a: no file 'a'. Relative paths start at '/here'.\n"
        "  web: no file 'b'. Set `path`.\n  faces: no file 'c'"
    )
    assert all(start in detail["fix"] for detail in error.to_json()["details"])


def test_no_secret_is_in_any_field() -> None:
    address = "https://user:p4ssw0rd-of-detail@host.example/list"
    note_secrets(address)
    secret = "p4ssw0rd-of-detail"
    detail = Detail(secret, secret, [{secret: secret}], [secret], secret)
    assert secret not in json.dumps(RecipeError(detail, within=address).to_json())


@pytest.mark.parametrize("field", ["message", "where", "found"])
def test_what_an_error_quotes_is_bounded(field: str) -> None:
    """As zipfile, which quotes 64 KB of a file as the name of a member."""
    note_secrets("s3://key:secret-word@host/bucket")
    quoted = "x" * (MAX_TEXT - 5) + "secret-word" + "y" * 100_000
    error = RecipeError(Detail(**{"message": "m", field: quoted}, fix="Mend it"))
    text = str(error) + json.dumps(error.to_json())
    assert len(text) < 6 * MAX_TEXT and "Mend it" in str(error)
    assert "secr" not in text


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process; returns exit status, output and error."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["curation", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capfd.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return command


def write(folder: Path, **blocks: Any) -> Path:
    """Write a recipe."""
    source = {"name": "web", "role": "pool", "format": "folder", "path": "pool"}
    path = folder / "r.yaml"
    path.write_text(json.dumps({"name": "r", "sources": [source]} | blocks), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("arguments", "status", "fields"),
    [
        (
            ["plan", "r.yaml"],
            2,
            {
                "error": "RecipeError",
                "where": "r.yaml: screen.filtres",
                "found": "filtres",
                "fix": "Did you mean 'filters'?",
            },
        ),
        (
            ["run", "none.yaml", "--store", "s"],
            2,
            {"where": "none.yaml", "found": None},
        ),
        (["runs"], 2, {"error": "UsageError", "where": "--store"}),
        (["runz"], 2, {"found": "runz", "fix": "Did you mean 'run'?"}),
        (["runs", "--stor", "s"], 2, {"where": "--stor", "valid": ["--json", "--store"]}),
        (["show", "image", "--store", "s"], 1, {"error": "StoreError", "found": "image"}),
        (["show", "images", "--store"], 2, {"error": "RecipeError", "found": "--json"}),
        (["sql", "SELECT 1", "--out"], 2, {"where": "--out", "found": "--json"}),
        (["report", "--run", "--store", "s"], 2, {"where": "--run", "found": "--store"}),
        (["run", "r.yaml", "--store", "--verbos"], 2, {"where": "--store", "found": "--verbos"}),
        (["run", "r.yaml", "--store"], 2, {"error": "RecipeError", "where": "--store"}),
        (
            ["show", "images", "--json", "--store"],
            2,
            {"where": "--store", "fix": "curation COMMAND --help lists options"},
        ),
    ],
)
def test_an_error_is_one_object_on_standard_error(
    arguments: list[str], status: int, fields: dict[str, Any], run: Run, tmp_path: Path
) -> None:
    write(tmp_path, screen={"filtres": []})
    ended, printed, errors = run(*arguments, *([] if "--json" in arguments else ["--json"]))
    assert (ended, printed) == (status, ""), errors
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]
    error = json.loads(errors)
    assert Error.model_validate(error).exit_status == status
    assert {name: error[name] for name in fields} == fields
    assert not acting(errors.strip("\n"))


def test_an_argument_that_is_missing_is_told_with_its_choices(run: Run) -> None:
    status, _, errors = run("where")
    words = " ".join(errors.replace("│", " ").split())
    assert status == 2 and "Choose from: jobs, airflow_dags, conf," in words
    assert "\\n" not in errors


@pytest.mark.parametrize("option", ["--verbose", "--log-format=json", "-v"])
def test_an_option_of_all_commands_is_told_its_place(option: str, run: Run) -> None:
    status, _, errors = run("runs", "--store", "s", option, "--json")
    error = json.loads(errors)
    name = option.partition("=")[0]
    assert (status, error["where"]) == (2, name)
    assert f"stands before the command: curation {name} … runs" in error["message"]


def test_an_error_that_nobody_foresaw_has_a_trace_and_is_json(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(standalone_mode: bool) -> None:
        raise KeyError("x")

    monkeypatch.setitem(main.__globals__, "app", fail)
    ended, printed, errors = run("runs", "--json")
    *trace, last = errors.strip().splitlines()
    assert (ended, printed, trace[0]) == (1, "", "Traceback (most recent call last):")
    assert Error.model_validate(json.loads(last)).error == "KeyError"


def test_logs_as_json_have_the_fields_too(root: Path, tmp_path: Path) -> None:
    write(tmp_path, sed=1)
    done = subprocess.run(
        [sys.executable, "-m", "curation.cli", "--log-format", "json", "plan", "r.yaml"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    record = json.loads(done.stderr)
    error = {name: record[name] for name in Error.model_fields}
    assert Error.model_validate(error).fix == "Did you mean 'seed'?"
    assert (record["level"], error["exit_status"], done.returncode) == ("error", 2, 2)


def test_all_mistakes_of_a_recipe_are_told_at_once(run: Run, tmp_path: Path) -> None:
    write(tmp_path, screen={"filtres": [], "words": {"a": {}}}, sed=1)
    details = json.loads(run("plan", "r.yaml", "--json")[2])["details"]
    wanted = {"screen.filtres", "screen.words.a.file", "sed"}
    assert {detail["where"] for detail in details} == {f"r.yaml: {key}" for key in wanted}


@pytest.mark.parametrize(
    ("blocks", "where", "fix"),
    [
        ({"screen": {"filters": ["aspct"]}}, "screen.filters", "Did you mean 'aspect'?"),
        ({"select": {"aspct": {"at_least": 1}}}, "select.aspct", "have it computed"),
        (
            {"score": {"heads": {"h": {"kind": "liner", "encoder": "s", "weights": "w"}}}},
            "score.heads.h.kind",
            "Did you mean 'linear'?",
        ),
        ({"cluster": {"backend": "fais"}}, "cluster.backend", "Did you mean 'faiss'?"),
        ({"cluster": {"encoder": "semantc"}}, "cluster.encoder", "Did you mean 'semantic'?"),
        (
            {"embed": {"encoders": {"semantic": {"model": "vit_mikro"}}}},
            "embed.encoders.semantic.model",
            "vit_micro",
        ),
        (
            {"retrieve": [{"name": "a", "strategy": "sampel"}]},
            "retrieve.a.strategy",
            "Did you mean 'sample'?",
        ),
        ({"fetch": {"fail_over": {"timeuot": 0.1}}}, "fetch.fail_over", "Did you mean 'timeout'?"),
        ({"dedup": {"near": {"encodr": "x"}}}, "dedup.near.encodr", "Did you mean 'encoder'?"),
        (
            {"sources": [{"name": "web", "role": "pool", "format": "parket", "path": "x"}]},
            "sources.0.format",
            "Did you mean 'parquet'?",
        ),
    ],
)
def test_the_name_that_was_meant_is_offered(
    blocks: dict[str, Any], where: str, fix: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe(write(tmp_path, **blocks))
    details = {str(d["where"]): d for d in raised.value.to_json()["details"]}
    place = f"{tmp_path / 'r.yaml'}: {where}"
    assert place in details, details
    assert fix in details[place]["fix"]


def test_names_on_the_command_line_are_offered(world: World) -> None:

    from curation.cli import app

    store = ["--store", str(world.store)]
    cases: list[tuple[list[str], str]] = [
        (["run", str(world.recipe), *store, "--until", "embd"], "embed"),
        (["run", str(world.recipe), *store, "--only", "embd"], "embed"),
        (["run", str(world.recipe), *store, "--from", "embd"], "embed"),
        (["run", str(world.recipe), *store, "--cluster", "standalon"], "standalone"),
        (["show", "imags", *store], "images"),
        (["path", "imags", *store], "images"),
        (["versions", "imags", *store], "images"),
        (["verify-store", *store, "--table", "imags"], "images"),
        (["schema", "run s"], "runs"),
    ]
    for arguments, meant in cases:
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, CurationError), (arguments, result.output)
        assert f"did you mean {meant!r}?" in str(result.exception), arguments
