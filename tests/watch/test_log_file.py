"""The log file of a run has what was said, clean and without secrets, and stays small."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from curation.cli import app
from curation.errors import StoreError
from curation.flow import plan
from curation.log_file import LogFile, log_file
from curation.logs import log_of
from curation.recipe import load_recipe
from curation.runner.gc.kept_runs import Retention
from curation.store.holder import this_process
from curation.store.log_place import (
    KEPT_OF_OTHER_STORES,
    log_path,
    remove_from_state_folder,
    state_folder,
    tidy_state_folder,
)
from curation.store.run_log import read_runs
from curation.store.step_log import StepLog, Waiting, hold
from curation.store.store import Store
from tests.gc.helpers import gc
from tests.ingest.helpers import jpeg
from tests.test_streams import EVIL, SECRET, WRITERS
from tests.test_terminal import acting

SIGNED = "https://host.example/p?X-Amz-Signature=0123456789abcdef&n=1"

LOGGED = WRITERS.replace(
    '    prepare_streams(logging.INFO, "%(message)s")\n',
    '    prepare_streams(logging.WARNING, "%(message)s")\n'
    "    from pathlib import Path\n"
    "    from curation.log_file import log_file\n"
    "    log = log_file(Path(sys.argv[1])); log.__enter__()\n"
    '    warnings.warn("library" + EVIL + ADDRESS)\n'
    "    print('part', end=''); print('ed' + EVIL)\n"
    "    os.write(2, b'\\x1eonly the file\\x1fand more\\n')\n",
).replace(
    'os.write(2, b"after',
    'os.write(2, b"\\x1eno file\\n")\nlog.__exit__(None, None, None)\nos.write(2, b"after',
)  # fmt: skip

SPARK = """
import logging, sys
from pathlib import Path
from curation.engine.cluster import load_cluster
from curation.engine.spark import open_context
from curation.log_file import log_file
from curation.logs import prepare_streams
from curation.streams import clean_output

class Fails:
    def __call__(self, tried):
        path = Path(tried)
        if not path.exists():
            path.touch()
            raise ValueError("the first attempt")
        return 1

with clean_output():
    prepare_streams(logging.WARNING, "%(message)s")
    with log_file(Path(sys.argv[1])):
        spark = open_context("log", load_cluster("local"))
        java = spark._jvm.org.apache.logging.log4j.LogManager.getLogger("org.apache.spark.X")
        java.warn("a warning\\nof two lines")
        java.error("an error of Java")
        assert spark.parallelize([sys.argv[2]], 1).map(Fails()).collect() == [1]
        spark.stop()
"""


def run(root: Path, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="backslashreplace",
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=120,
    )


def test_all_that_a_process_and_its_children_say_is_in_the_file(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "logs" / "run.log"
    done = run(root, LOGGED, path)
    text = path.read_text(encoding="utf-8")
    kinds = ("library", "parted", "logged", "thread", "foreign", "output", "child")
    assert {kind: text.count(f"{kind}\\x1b") for kind in kinds} == dict.fromkeys(kinds, 1), text
    # Of what only the file has, nobody sees anything, unless there is no file.
    assert "only the file\n    and more\n" in text
    assert "only the file" not in done.stderr and "logged" not in done.stderr
    assert "no file" in done.stderr and "no file" not in text
    assert "thread" in done.stderr and "Traceback" in text
    assert not acting(text.replace("\n", "")) and SECRET not in text and EVIL not in text


def test_warnings_of_java_and_failed_attempts_are_in_the_file_alone(
    root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run.log"
    done = run(root, SPARK, path, tmp_path / "tried")
    text = path.read_text(encoding="utf-8")
    assert done.returncode == 0, done.stderr + text
    assert "a warning\n    of two lines" in text and "ValueError: the first attempt" in text
    assert "an error of Java" in text and "an error of Java" in done.stderr
    assert "warning" not in done.stderr and "attempt" not in done.stderr


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=400), min_size=1, max_size=40), st.integers(200, 4000))
@example(["\U0001f600" * 100] * 2, 800)
def test_a_file_is_bounded_and_has_what_was_said_last(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], limit: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "run.log"
    with log_file(path, limit):
        for number, text in enumerate(texts):
            logging.getLogger("x").info("%s %s %d.", SIGNED, text, number)
    earlier = Path(f"{path}.1")
    assert set(path.parent.iterdir()) <= {path, earlier}
    content = path.read_bytes()
    # Unless it is one record.
    assert len(content) <= limit or content.count(b" INFO x: ") == 1
    whole = content.decode()
    assert whole.endswith(f" {len(texts) - 1}.\n")
    assert (
        "0123456789abcdef" not in whole and "&n=1" in whole and not acting(whole.replace("\n", ""))
    )


def test_a_part_of_a_signed_query_is_masked(tmp_path: Path) -> None:
    with log_file(tmp_path / "run.log"):
        logging.getLogger("x").info("parameters n=1&%s", SIGNED.partition("?")[2])
    assert "parameters n=1&X-Amz-Signature=***&n=1" in (tmp_path / "run.log").read_text()


def test_a_file_that_cannot_be_written_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with log_file(Path("/dev/full")):
        logging.getLogger("x").warning("first")
        logging.getLogger("x").warning("second")
    assert capsys.readouterr().err.count("/dev/full cannot be written any more") == 1


def test_a_forked_process_does_not_rename_the_file(tmp_path: Path) -> None:
    handler = LogFile(tmp_path / "run.log", max_bytes=100)
    child = os.fork()
    if child == 0:
        for _ in range(20):
            handler.add_line("of the child, long enough")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    handler.close()
    assert [p.name for p in tmp_path.iterdir()] == ["run.log"]
    assert (tmp_path / "run.log").read_text().count("of the child") == 20


def test_an_error_names_the_file_and_its_trace_is_there(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    with pytest.raises(StoreError) as raised, log_file(path):
        raise StoreError(f"no table at {SIGNED}")
    assert log_of(raised.value) == str(path)
    text = path.read_text()
    assert "Traceback" in text and "StoreError: no table at" in text
    assert "0123456789abcdef" not in text
    assert log_of(StoreError("x")) is None


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg(1))
    listed = {"name": "web", "role": "pool", "format": "folder", "path": str(folder)}
    path = tmp_path / "birds.yaml"
    path.write_text(yaml.safe_dump({"name": "birds", "sources": [listed]}))
    return path


def invoke(recipe: Path, store: Path, *more: str, json_too: bool = True) -> Any:
    options = ["--json"] if json_too else []
    arguments = ["run", str(recipe), "--store", str(store), "--until", "ingest", *options, *more]
    return CliRunner().invoke(app, arguments)


def test_a_run_prints_where_its_log_is(recipe: Path, tmp_path: Path) -> None:
    done = invoke(recipe, tmp_path / "store")
    (record,) = read_runs(Store(tmp_path / "store"))
    path = tmp_path / "store" / "logs" / f"{record.run}.log"
    assert json.loads(done.stdout)["log"] == str(path) and str(path) in done.stderr
    text = path.read_text()
    assert f"run {record.run} of birds" in text and "ingest: 1 fragments computed" in text


def test_a_run_that_fails_says_where_its_log_is(recipe: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    step = plan(load_recipe(str(recipe)), until="ingest")[0]
    other = this_process("another")
    with hold(StepLog(store, step.fingerprint), other, "ingest", {}, Waiting()):
        done = invoke(recipe, tmp_path / "store", "--no-wait", json_too=False)
    (record,) = read_runs(store)
    assert log_of(done.exception) == str(log_path(store, record.run))
    assert "LeaseError" in log_path(store, record.run).read_text()


def test_a_run_without_a_log_says_so_and_goes_on(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "logs").write_text("no folder")
    done = invoke(recipe, tmp_path / "store")
    assert done.exit_code == 0 and json.loads(done.stdout)["log"] is None
    assert "no log file" in caplog.text


def test_gc_removes_the_logs_of_runs_that_it_removes(recipe: Path, tmp_path: Path) -> None:
    place = tmp_path / "store"
    for _ in range(3):
        invoke(recipe, place)
    gc(place, Retention(grace_s=3600.0))
    assert len([*(place / "logs").iterdir()]) == 3
    gc(place)
    kept = [record.run for record in read_runs(Store(place))]
    assert [p.name for p in (place / "logs").iterdir()] == [f"{run}.log" for run in kept]
    assert len(kept) == 1


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield state_folder()


def test_runs_on_stores_elsewhere_have_logs_on_this_machine(state: Path) -> None:
    store = Store("s3://bucket/store?endpoint_override=127.0.0.1:1&scheme=http&region=x")
    assert log_path(store, "20261129T1") == state / "20261129T1.log"
    state.mkdir(parents=True)
    names = [f"20261129T{n:04}.log" for n in range(KEPT_OF_OTHER_STORES + 3)]
    for name in names:
        (state / name).touch()
    (state / f"{names[-1]}.1").touch()
    tidy_state_folder()
    left = {p.name for p in state.iterdir()}
    assert left == {*names[4:], f"{names[-1]}.1"} and len(left) == KEPT_OF_OTHER_STORES
    remove_from_state_folder([names[-1].removesuffix(".log")])
    assert {p.name for p in state.iterdir()} == {*names[4:-1]}


def test_a_command_that_fails_prints_where_the_log_is(
    recipe: Path, tmp_path: Path, root: Path
) -> None:
    store = Store(tmp_path / "store")
    step = plan(load_recipe(str(recipe)), until="ingest")[0]
    arguments = ["run", recipe, "--store", store.uri, "--until", "ingest", "--no-wait"]
    script = "import sys; from curation.cli import main; sys.argv[0] = 'curation'; main()"
    with hold(StepLog(store, step.fingerprint), this_process("other"), "ingest", {}, Waiting()):
        text = run(root, script, *arguments)
        as_json = run(root, script, *arguments, "--json")
    paths = [str(log_path(store, record.run)) for record in read_runs(store)]
    assert text.returncode == as_json.returncode == 1
    assert text.stderr.endswith(f"log    {paths[1]}\n")
    assert json.loads(as_json.stderr.splitlines()[-1])["log"] == paths[0]


def test_ctrl_c_is_one_message(recipe: Path, tmp_path: Path, root: Path) -> None:
    """Of the command and of the job, as text and as JSON."""
    store, arguments = Store(tmp_path / "store"), ["--until", "ingest", "--store"]
    step = plan(load_recipe(str(recipe)), until="ingest")[0]
    program = [sys.executable, "-P", "-m", "curation.cli"]
    commands = [
        [*program, "run", recipe, *arguments, store.uri],
        [*program, "run", recipe, *arguments, store.uri, "--json"],
        [sys.executable, root / "jobs" / "run.py", "--recipe", recipe, *arguments, store.uri],
    ]
    with hold(StepLog(store, step.fingerprint), this_process("other"), "ingest", {}, Waiting()):
        ended = [interrupted_while_it_waits([str(word) for word in c], root) for c in commands]
    assert [status for status, _ in ended] == [130, 130, 130]
    as_text, as_json, of_job = (output for _, output in ended)
    for output in as_text, of_job:
        assert "Interrupted. Run again: what is finished is kept." in output
        assert "Traceback" not in output
    assert json.loads(as_json.splitlines()[-1])["exit_status"] == 130
    assert {record.state for record in read_runs(store)} == {"failed"}


def interrupted_while_it_waits(command: list[str], root: Path) -> tuple[int, str]:
    """Press Ctrl-C while a command waits; return its exit status and what it says after that."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    # A shell that runs the tests in the background has them ignore Ctrl-C, and so what they start.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        signal.signal(signal.SIGINT, handler)
        try:
            assert process.stderr and any("is being worked on" in line for line in process.stderr)
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    return process.returncode, output


def test_traces_of_py4j_are_in_the_file_alone(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    done = run(root, PY4J, path)
    assert done.returncode == 0 and "sending command" not in done.stderr
    assert "another" in done.stderr
    assert "KeyboardInterrupt while sending command" in path.read_text()


PY4J = """
import logging, sys
from pathlib import Path
from curation.log_file import log_file
from curation.logs import prepare_streams

prepare_streams(logging.INFO, "%(message)s")
# The file of py4j that uses the root logger.
code = "import logging; logging.error('KeyboardInterrupt while sending command.')"
with log_file(Path(sys.argv[1])):
    exec(compile(code, "py4j/java_gateway.py", "exec"))
    logging.error("another")
"""

ENDS = """
import os, sys
from pathlib import Path
from curation.log_file import log_file
from curation.streams import clean_output

with clean_output():
    for name in ("first.log", "second.log"):
        with log_file(Path(sys.argv[1], name)):
            for number in range(5000):
                os.write(2, b"\\x1eJava %d\\n" % number)
            print(f"begun in {name}", end="")
"""


def test_a_file_has_what_was_said_to_its_end_and_no_other_file_has_it(
    root: Path, tmp_path: Path
) -> None:
    done = run(root, ENDS, tmp_path)
    assert done.returncode == 0 and "Java" not in done.stderr
    for name in ("first.log", "second.log"):
        lines = (tmp_path / name).read_text().splitlines()
        ends = [line.rsplit(": ", 1)[1] for line in lines]
        assert sorted(ends) == sorted(["begun in " + name, *(f"Java {n}" for n in range(5000))])
