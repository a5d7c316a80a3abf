"""Whatever shell, machine and names a run meets: it works, or one message says how to mend it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from curation.cli import app
from curation.cli.app import main
from curation.engine.parallel import InProcess
from curation.engine.spark_settings import check_pyspark, keep_local_settings, start_error
from curation.engine.table import open_table
from curation.errors import RecipeError, StoreError
from curation.flow import plan
from curation.recipe import Recipe, parse_recipe
from curation.runner.preflight import check_store
from curation.runner.step import run_step
from curation.stages.ingest.sources.listing import source_files
from curation.store.store import Store
from tests.ingest.helpers import jpeg

LEFT_BEHIND = {
    "PYSPARK_PYTHON": "/usr/bin/python3.9",
    "PYSPARK_DRIVER_PYTHON": "jupyter",
    "PYSPARK_DRIVER_PYTHON_OPTS": "notebook",
    "PYSPARK_SUBMIT_ARGS": "--master yarn --deploy-mode client pyspark-shell",
    "SPARK_HOME": "/opt/spark-3.3.0",
    "SPARK_CONF_DIR": "/etc/spark",
    "SPARK_LOCAL_IP": "192.0.2.1",
    "SPARK_LOCAL_HOSTNAME": "data_worker_1",
    "SPARK_LOCAL_DIRS": "/dev/null/nowhere",
    "SPARK_REMOTE": "sc://elsewhere",
    "SPARK_MASTER_HOST": "elsewhere",
}


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_another_spark_left_behind_is_not_used(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    environment = {"HOME": "/root", name: LEFT_BEHIND[name]}
    keep_local_settings(environment)
    assert environment == {"HOME": "/root", "SPARK_LOCAL_IP": "127.0.0.1"}
    assert f"Not used, because the cluster is local: {name}." in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PYSPARK_PYTHON", sys.executable),
        ("PYSPARK_SUBMIT_ARGS", "--conf spark.python.daemon.module=cover pyspark-shell"),
        ("PYSPARK_SUBMIT_ARGS", "pyspark-shell"),
        ("SPARK_LOCAL_IP", "127.0.0.1"),
        ("SPARK_LOCAL_DIRS", "/tmp,/tmp/not-there-yet"),
        ("SPARK_DRIVER_MEMORY", "8g"),
    ],
)
def test_what_a_local_run_can_use_stays(
    name: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    environment = {name: value}
    keep_local_settings(environment)
    assert environment == {"SPARK_LOCAL_IP": "127.0.0.1"} | {name: value}
    assert not caplog.text


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (
            "--master yarn --conf spark.ui.port=1 pyspark-shell",
            "--conf spark.ui.port=1 pyspark-shell",
        ),
        ("--conf spark.master=yarn --jars x.jar pyspark-shell", None),
        ("--conf 'spark.a=b c' --packages x:y:1", "--conf 'spark.a=b c' pyspark-shell"),
        ("--conf 'unclosed", None),
    ],
)
def test_of_submit_arguments_only_properties_stay(arguments: str, kept: str | None) -> None:
    environment = {"PYSPARK_SUBMIT_ARGS": arguments}
    keep_local_settings(environment)
    assert environment.get("PYSPARK_SUBMIT_ARGS") == kept


def test_under_spark_submit_everything_stays() -> None:
    environment = LEFT_BEHIND | {"PYSPARK_GATEWAY_PORT": "1"}
    before = dict(environment)
    keep_local_settings(environment)
    assert environment == before


def test_another_pyspark_on_the_path_is_named() -> None:
    with pytest.raises(RecipeError, match=r"imports 3\.3\.0 from /opt/spark.*PYTHONPATH"):
        check_pyspark("3.3.0", "/opt/spark/pyspark/__init__.py")


START = "An error occurred while calling None.JavaSparkContext.\n: "


def test_a_spark_that_does_not_start_is_one_message() -> None:
    trace = f"{START}java.net.UnknownHostException: a\n\tat java.net.X\n"
    error = start_error(RuntimeError(trace), {"SPARK_HOME", "JAVA_TOOL_OPTIONS", "PATH"})
    (detail,) = error.details
    assert "java.net.UnknownHostException: a" in detail.message
    assert "(JAVA_TOOL_OPTIONS, SPARK_HOME)" in detail.fix
    assert "\tat " not in str(detail)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (
            f"{START}org.apache.spark.SparkIllegalArgumentException: [INVALID_DRIVER_MEMORY] System",
            2,
        ),
        (f"{START}java.lang.NumberFormatException: Size must be specified as bytes", 2),
        (f"{START}org.apache.spark.SparkException: Could not parse Master URL: 'x'", 2),
        (f"{START}java.lang.ClassNotFoundException: no.such.Class", 2),
        (
            f"{START}org.apache.spark.SparkException: The number of cores per executor (=2) has to be "
            ">= the number of cpus per task = 3.",
            2,
        ),
        ("[JAVA_GATEWAY_EXITED] Java gateway process exited before sending its port number.", 1),
        ("Answer from Java side is empty", 1),
        (f"{START}java.lang.IllegalStateException: Shutdown in progress", 1),
        (
            f"{START}org.apache.spark.SparkException: Application 1 failed 2 times due to AM",
            1,
        ),
    ],
)
def test_only_a_setting_that_spark_refuses_is_not_tried_again(text: str, status: int) -> None:
    """Airflow tries no task again that ended with 2. Java may have been ended for want of memory."""
    error = start_error(RuntimeError(text), ())
    assert error.exit_status == status, error
    assert ("Run again" in str(error)) == (status == 1)


GONE = "[JAVA_GATEWAY_EXITED] Java gateway process exited before sending its port number."
WARNING = "WARNING: Using incubator modules: jdk.incubator.vector"


@pytest.mark.parametrize(
    ("line", "reason", "status"),
    [
        ("Invalid maximum heap size: -Xmx4gb2", "", 2),
        ("Unrecognized option: -verbos", "", 2),
        (
            'Exception in thread "main" org.apache.spark.SparkException: Total executor cores must be',
            "org.apache.spark.SparkException: Total executor cores must be",
            2,
        ),
        ("Could not reserve enough space for 107374182400KB object heap", "", 1),
        (
            "05:19:30 ERROR DiskBlockManager: Failed to create any local dir.",
            "Failed to create any local dir.",
            1,
        ),
        ("05:19:30 WARN Utils: Invalid hostname", "Java gateway process exited", 1),
    ],
)
def test_what_java_writes_before_it_ends_is_the_reason(line: str, reason: str, status: int) -> None:
    error = start_error(RuntimeError(GONE), (), [WARNING, line, "\tat org.apache.spark.X"])
    assert f"does not start: {reason or line}" in str(error) or reason in GONE
    assert error.exit_status == status


# -- names ------------------------------------------------------------------------------------------

NAMES = ("a b", "[x]", "50%25 #1", "a:b", "Vögel 鳥", "-rf", "{a,b}*?", "x" * 120, "a'\"b\\c", "~")


def recipe_of(path: Path | str, form: str = "parquet") -> Recipe:
    columns = {"columns": {"url": "url"}} if form == "parquet" else {}
    pool = {"name": "web", "role": "pool", "format": form, "path": str(path)}
    return parse_recipe({"name": "names", "sources": [pool | columns]})


def write_list(folder: Path, rows: int = 5) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    urls = [f"http://127.0.0.1:9/{n}.jpg" for n in range(rows)]
    pq.write_table(pa.table({"url": urls}), folder / "list.parquet")


def ingested(recipe: Recipe, store: Store) -> int:
    check_store(recipe, store)
    run_step(plan(recipe, until="ingest")[0], store, InProcess())
    return open_table(store, "pairs").rows


@pytest.mark.parametrize("name", NAMES)
def test_project_source_and_store_may_have_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    project = tmp_path / name
    write_list(project / name)
    monkeypatch.chdir(project)
    for path in (name, f"{name}/*.parquet", f"{name}/**/*.parquet", f"{name}/list.parquet"):
        (file,) = source_files(recipe_of(path).sources[0], 10)
        assert file.name == "list.parquet"
    assert ingested(recipe_of(f"{name}/*.parquet"), Store(f"{name} store/{name}")) == 5
    assert (project / f"{name} store" / name).is_dir()


AS_HOST = """
import socket, sys
socket.sethostname(sys.argv[1])
assert socket.gethostname() == sys.argv[1]
from curation.cli.app import main
sys.argv = ["curation", *sys.argv[2:]]
main()
"""


@pytest.mark.nightly
@pytest.mark.parametrize("host", ["data_worker_1", "no-such-name"])
def test_a_machine_may_have_any_name(tmp_path: Path, host: str) -> None:
    """As containers of docker compose: Spark's addresses take no underscore."""
    apart = ["unshare", "--uts", sys.executable, "-c"]
    probe = [*apart, f"import socket; socket.sethostname({host!r})"]
    if shutil.which("unshare") is None or subprocess.run(probe, check=False).returncode:
        pytest.skip("this machine lets nobody give a process another host name")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").write_bytes(jpeg())
    recipe = tmp_path / "recipe.yaml"
    spec = recipe_of(tmp_path / "pictures", "folder").model_dump(mode="json", exclude_defaults=True)
    recipe.write_text(yaml.safe_dump(spec))
    store = tmp_path / "store"
    words = ["run", str(recipe), "--store", str(store), "--until", "fetch"]
    done = subprocess.run([*apart, AS_HOST, host, *words], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = open_table(Store(store), "images").read(["status"]).to_pylist()
    assert row["status"] == "ok"


# -- stores that cannot be, or would be read ----------------------------------------------------------


@pytest.mark.parametrize("address", ["", "  "])
def test_a_store_without_an_address_is_refused(address: str) -> None:
    with pytest.raises(StoreError, match="address of the store is empty"):
        Store(address)


def test_a_store_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        with pytest.raises(StoreError, match=r"is a file\. Choose another store"):
            Store(path)


@pytest.mark.parametrize("below", ["", "birds/1"])
@pytest.mark.parametrize("target", ["missing", "link"])
def test_a_store_below_a_link_that_leads_nowhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, below: str
) -> None:
    """As to a disk that is not mounted: a new store would be made in its place."""
    (tmp_path / "link").symlink_to(tmp_path / target)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "link" / below, Path("link", below)):
        with pytest.raises(StoreError, match=r"leads nowhere: .* is a link to .*Mount the disk"):
            Store(path)
    assert not (tmp_path / "missing").exists()
    (tmp_path / "missing").mkdir()
    if target == "missing":
        assert Store(tmp_path / "link" / below).uri == str(tmp_path / "missing" / below)


@pytest.mark.parametrize("address", ["~/birds", Path("~/birds")])
def test_a_store_may_be_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | Path
) -> None:
    """A shell leaves the tilde of `--store=~/birds` as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Store(address).uri == str(tmp_path / "birds")


def test_a_store_whose_name_is_not_utf8_is_refused() -> None:
    with pytest.raises(StoreError, match="not UTF-8"):
        Store(os.fsdecode(b"/tmp/caf\xe9"))


def test_a_store_with_a_very_long_path_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / ("x" * 300), tmp_path.joinpath(*["y" * 200] * 25)):
        with pytest.raises(StoreError, match="Choose a store with a shorter path"):
            check_store(recipe_of(tmp_path / "lists"), Store(path))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "right to write there"),
        (errno.EROFS, "read-only"),
        (errno.ENOSPC, "Free some space .* files under logs/ may be deleted"),
        (errno.EDQUOT, "Free some space"),
    ],
)
def test_a_store_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    store = Store(tmp_path / "store")

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", refuse)
    # A disk that is read-only refuses this too, although there is no such file.
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StoreError, match=words):
        check_store(recipe_of(tmp_path / "lists"), store)
    with pytest.raises(StoreError, match=words), store.storage.open_output("tables/x"):
        pass


WRITES_TOO_MUCH = """
import resource
import sys
import pyarrow as pa
from curation.engine.fragment_writer import FragmentWriter
from curation.errors import StoreError
from curation.store.store import Store

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    writer = FragmentWriter(Store(sys.argv[1]), "tables/x", "fragment", None, batch_groups=True)
    for n in range(40):
        writer.write(pa.record_batch({"n": pa.array(range(n, n + 1000))}))
    writer.close("tables/x", "memo", {})
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [1, 3000, 9000, 30_000, 60_000])
def test_a_file_that_cannot_be_written_to_its_end_is_one_message_and_leaves_nothing(
    limit: int, tmp_path: Path
) -> None:
    """Whichever write it is, of a page, of the footer, or of what the buffer holds at the end."""
    words = [sys.executable, "-c", WRITES_TOO_MUCH, str(tmp_path), str(limit)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert f"Cannot write '{tmp_path}/tables/x/fragment." in done.stdout
    assert "File too large. Raise the limit" in done.stdout
    # Nor does a destructor complain later.
    assert done.stderr == ""
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_error_of_what_is_written_is_not_that_of_the_disk(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(OSError, match="source"), store.storage.open_output("tables/x"):
        raise OSError(errno.ENOSPC, "the source")
    assert not (tmp_path / "tables" / "x").exists()


def test_errors_of_the_machine_are_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(standalone_mode: bool) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/data/[x]")

    monkeypatch.setitem(main.__globals__, "app", refuse)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "error: '/data/[x]': Permission denied. Mend that" in capsys.readouterr().err


@pytest.fixture
def lists(tmp_path: Path) -> Iterator[Path]:
    write_list(tmp_path / "birds")
    yield tmp_path / "birds"


@pytest.mark.parametrize(
    ("path", "store", "form"),
    [
        ("birds", "birds/store", "parquet"),
        ("birds", "birds", "parquet"),
        ("birds", "birds/a/b/store", "parquet"),
        ("birds/", "link/store", "parquet"),
        ("birds", "birds/_store", "folder"),
        ("birds/**/*.parquet", "birds/store", "parquet"),
        ("birds/*/*/*.parquet", "birds/store", "parquet"),
        ("birds/store/tables/pairs", "birds/store", "parquet"),
    ],
)
def test_a_store_that_a_source_would_read_is_refused(
    lists: Path, path: str, store: str, form: str
) -> None:
    (lists.parent / "link").symlink_to(lists)
    recipe = recipe_of(lists.parent / path, form)
    with pytest.raises(RecipeError, match=r"(?s)store.*choose another store"):
        check_store(recipe, Store(lists.parent / store))


@pytest.mark.parametrize(
    ("path", "store", "form"),
    [
        ("birds", "birds store", "parquet"),
        ("birds", "birds/_store", "parquet"),
        ("birds", "birds/.store", "folder"),
        ("birds/*.parquet", "birds/store", "parquet"),
        ("birds/list.parquet", "birds/store", "parquet"),
        ("birds", ".", "parquet"),
        ("store/dataset/1", "store", "parquet"),
        ("s3://birds/lists", "birds", "parquet"),
    ],
)
def test_a_store_beside_what_is_read_is_fine(lists: Path, path: str, store: str, form: str) -> None:
    path = path if "://" in path else str(lists.parent / path)
    check_store(recipe_of(path, form), Store(lists.parent / store))


def test_every_command_refuses_an_empty_store(root: Path) -> None:
    recipe = str(root / "conf" / "recipes" / "quickstart.yaml")
    for arguments in (["run", recipe], ["show", "images"], ["path", "dataset"]):
        result = CliRunner().invoke(app, [*arguments, "--store", ""])
        assert isinstance(result.exception, StoreError), arguments
        assert "is empty" in str(result.exception)
