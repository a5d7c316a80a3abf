"""The cluster of `make cluster`: spark-submit from another folder, shipped files, and its limits."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyspark
import pytest
import yaml

from curation.engine.table import open_table
from curation.store.store import Store
from scripts.pack_environment import pack

from .small import encoded, picture, write_rows

ROOT = Path(__file__).resolve().parents[2]
SUBMIT = Path(pyspark.__file__).parent / "bin" / "spark-submit"

PLUGIN = """
from curation.stages.screen.filters import FilterEntry
from curation.stages.screen.filters.base import Filter

FILTERS = {"letters": FilterEntry(module=f"{__name__}:Letters")}


class Letters:
    FILTER = Filter("Letters", "count", "float", "none", lambda pair: float(len(pair.caption or "")))
"""


class Cluster:
    """A cluster that a script runs in a process of its own."""

    def __init__(self, home: Path, environment: dict[str, str] | None = None) -> None:
        self.home = home
        script = str(ROOT / "scripts" / "run_cluster.py")
        size = ["--port", "0", "--workers", "2", "--cores", "1", "--memory", "1g"]
        self.process = subprocess.Popen(
            [sys.executable, script, "--home", str(home), *size],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )

    def wait(self) -> None:
        """Wait until it says that it is ready."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if "Ctrl-C ends" in line:
                return
        raise AssertionError("".join(lines))

    def daemons(self) -> list[psutil.Process]:
        """The processes that it started."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        # Scripts of Spark leave ended children behind.
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]

    def stop(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        running.wait()
        yield running
        daemons = running.daemons()
        running.stop()
        _, alive = psutil.wait_procs(daemons, 30)
        assert not alive
        left = {path.name for path in running.home.iterdir()}
        assert not left & {"secret", "daemons.conf", "cluster.yaml", "spark-submit.conf"}
    finally:
        running.process.kill()


def test_it_is_closed_to_others(cluster: Cluster) -> None:
    for name in ("secret", "daemons.conf", "cluster.yaml", "spark-submit.conf"):
        assert stat.S_IMODE((cluster.home / name).stat().st_mode) == 0o600
    secret = (cluster.home / "secret").read_text().strip()
    addresses = set()
    for process in cluster.daemons():
        assert not any(secret in word for word in process.cmdline())
        listening = (c for c in process.net_connections() if c.status == psutil.CONN_LISTEN)
        addresses |= {connection.laddr.ip.removeprefix("::ffff:") for connection in listening}
    assert addresses == {"127.0.0.1"}


def test_a_worker_with_another_secret_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    secret = (cluster.home / "secret").read_text().strip()
    master = yaml.safe_load((cluster.home / "cluster.yaml").read_text())["master"]
    other = tmp_path / "daemons.conf"
    other.write_text((cluster.home / "daemons.conf").read_text().replace(secret, secret[::-1]))
    options = ["--host", "127.0.0.1", "--webui-port", "0", "--work-dir", str(tmp_path)]
    stranger = subprocess.Popen(
        [str(SUBMIT.with_name("spark-class")), "org.apache.spark.deploy.worker.Worker"]
        + ["--properties-file", str(other), *options, master],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"SPARK_LOCAL_IP": "127.0.0.1"},
    )
    try:
        assert stranger.stdout is not None
        lines = []
        for line in stranger.stdout:
            lines.append(line)
            if re.search(r"Failed to connect to master|Successfully registered", line):
                break
        assert "Failed to connect to master" in lines[-1], "".join(lines)
        assert any("New auth protocol failed" in line for line in lines), "".join(lines)
    finally:
        stranger.kill()
        stranger.wait()


def _pool(folder: Path) -> dict[str, Any]:
    """Write a recipe's files into a folder; return the recipe, with paths relative to the folder."""
    rng = np.random.default_rng(0)
    captions = ["a red bird", "a bird and a second bird", "no animal"] * 8
    rows = [{"image": encoded(picture(0, rng, 64)), "caption": caption} for caption in captions]
    write_rows(folder / "pool" / "a.parquet", rows)
    (folder / "lists").mkdir()
    (folder / "lists" / "words.txt").write_text("bird\n")
    (folder / "letters.py").write_text(PLUGIN)
    source = {"name": "web", "role": "pool", "format": "parquet", "path": "pool"}
    return {
        "name": "ours",
        "plugins": ["letters.py"],
        "sources": [source | {"columns": {"image": "image", "caption": "caption"}}],
        "ingest": {"rows_per_fragment": 6},
        "screen": {"filters": ["letters"], "words": {"birds": {"file": "lists/words.txt"}}},
    }


def _submit(
    cluster: Cluster, folder: Path, job: str, *arguments: str, conf: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    properties = ["--properties-file", str(cluster.home / "spark-submit.conf")]
    settings = [
        word for name, value in (conf or {}).items() for word in ("--conf", f"{name}={value}")
    ]
    done = subprocess.run(
        [str(SUBMIT), *properties, *settings, str(ROOT / "jobs" / job), *arguments],
        cwd=folder,
        env={"PYSPARK_PYTHON": sys.executable, **os.environ},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    return done


def test_spark_submit_from_another_folder_reads_files_by_relative_paths(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Executors work in folders of their own, so they have the word list only if it is shipped."""
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(_pool(tmp_path)))
    summary = tmp_path / "summary.json"
    arguments = ["--recipe", "recipe.yaml", "--store", "store", "--summary", str(summary)]
    _submit(cluster, tmp_path, "run.py", *arguments, "--until", "fetch")
    # The job of a single stage.
    _submit(cluster, tmp_path, "20_screen.py", *arguments)
    scores = open_table(Store(tmp_path / "store"), "scores").read(["words_birds", "letters"])
    assert sorted(scores["words_birds"].to_pylist()) == [0] * 8 + [1] * 8 + [2] * 8
    assert sorted(set(scores["letters"].to_pylist())) == [9, 10, 24]
    work = [path for path in cluster.home.glob("worker-*/app-*/*") if path.is_dir()]
    assert {path.parents[1].name for path in work} == {"worker-0", "worker-1"}
    (stage,) = json.loads(summary.read_text())["stages"]
    assert (stage["stage"], stage["rows"]) == ("screen", 24)


IN_A_SESSION = """
import json, sys
from pathlib import Path
from curation.engine import executors
from curation.engine.shipped_files import local_path
from curation.engine.cluster import load_cluster
from curation.engine.spark_workers import spark_workers

def content(path):
    place = Path(local_path(path))
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    return [[p.name, p.read_text(), str(p.parent)] for p in files]

def big(item):
    return len(item)

cluster = load_cluster(sys.argv[1])
inputs = ["a/model.bin", "b/model.bin", "folder", "my list #1.txt", "my folder #2", "back\\\\slash.txt"]
with spark_workers("shipped", cluster, inputs=inputs) as workers:
    shipped = workers.map("files", content, inputs)
    context = workers._spark
    offers = executors.ask_master(context, cluster.master)
    messages = []
    clock = iter([0.0, 30.0]).__next__
    watch = executors.ExecutorWatch(context, messages.append, clock)
    watch._wanted = 3
    watch.check()
print("RESULT " + json.dumps([shipped, offers, messages]))
"""


def test_files_and_folders_of_one_name_are_shipped_and_the_master_says_what_it_has(
    cluster: Cluster, tmp_path: Path
) -> None:
    odd = ("my list #1.txt", "my folder #2/z.txt", "back\\slash.txt")
    for name in ("a/model.bin", "b/model.bin", "folder/x.txt", "folder/deep/y.txt", *odd):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    done = subprocess.run(
        [sys.executable, "-c", IN_A_SESSION, str(cluster.home / "cluster.yaml")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = (x for x in done.stdout.splitlines() if x.startswith("RESULT "))
    shipped, offers, messages = json.loads(line.removeprefix("RESULT "))
    texts = [[text for _, text, _ in files] for files in shipped]
    files = ["folder/deep/y.txt", "folder/x.txt"]
    assert texts == [["a/model.bin"], ["b/model.bin"], files, *([name] for name in odd)]
    assert not any(place.startswith(str(tmp_path)) for files in shipped for *_, place in files)
    assert offers == [[["127.0.0.1", 1, 1024]] * 2, 0]
    (message,) = messages
    assert "Only 2 executors have started" in message
    assert "The master has 2 workers (127.0.0.1: 1 cores, 1,024 MiB; " in message


def _last_session(cluster: Cluster) -> datetime:
    """Return when the last session of Spark began, as the log of the master has it."""
    log = (cluster.home / "master.log").read_text()
    *_, time = re.findall(r"^(\S+ \S+) INFO Master: Registering app", log, re.M)
    return datetime.strptime(time, "%y/%m/%d %H:%M:%S")


@pytest.mark.nightly
def test_a_run_that_asks_for_too_much_is_told_so_within_a_minute_of_its_session(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(_pool(tmp_path)))
    spec = yaml.safe_load((cluster.home / "cluster.yaml").read_text())
    spec["conf"]["spark.executor.memory"] = "64g"
    (tmp_path / "large.yaml").write_text(yaml.safe_dump(spec))
    arguments = ["run", "recipe.yaml", "--store", "store", "--cluster", "large.yaml"]
    process = subprocess.Popen(
        [sys.executable, "-m", "curation.cli", *arguments],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        message = next(line for line in process.stderr if "No executor has started" in line)
        shown = datetime.now()
        # It waits for 20 s from its first job on. A busy machine takes some seconds until then.
        assert "for 20 s." in message
        assert shown - _last_session(cluster) <= timedelta(seconds=60)
        assert "65,536 MiB" in message
        assert "set spark.executor.memory to 1024m or less" in message
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


WHERE_IT_RUNS = """
import sys
from curation.stages.screen.filters import FilterEntry
from curation.stages.screen.filters.base import Filter

FILTERS = {"place": FilterEntry(module=f"{__name__}:Place", text=True)}


class Place:
    FILTER = Filter("Prefix of Python", "path", "string", "none", lambda pair: sys.prefix)
"""
# What executors of the stages until `screen` import, and what starts them.
IMPORTED = """
import sys, sysconfig
from pathlib import Path
import pyspark.daemon, pyspark.worker, curation.media.pictures.decoder_worker
from curation.engine.parallel import InProcess
from curation.flow import plan
from curation.recipe import load_recipe
from curation.runner.step import run_step
from curation.store.store import Store
for step in plan(load_recipe("recipe.yaml"), until="screen"):
    run_step(step, Store("here"), InProcess())
site = Path(sysconfig.get_path("purelib"))
files = {Path(f) for m in list(sys.modules.values()) if (f := getattr(m, "__file__", None))}
print(*{f.relative_to(site).parts[0] for f in files if f.is_relative_to(site)})
"""


def _not_imported(folder: Path) -> list[str]:
    """Names in site-packages that the stages of a recipe do not need; all of them take gigabytes."""
    command = [sys.executable, "-c", IMPORTED]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    # A file of img2dataset is loaded by itself.
    imported = {*done.stdout.splitlines()[-1].split(), "img2dataset"}
    names = [path.name for path in Path(sysconfig.get_path("purelib")).iterdir()]
    return [n for n in names if n not in imported and not n.endswith((".libs", ".dist-info"))]


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_executors_run_in_the_environment_that_was_packed_and_shipped(tmp_path: Path) -> None:
    recipe = _pool(tmp_path)
    (tmp_path / "place.py").write_text(WHERE_IT_RUNS)
    recipe |= {"plugins": ["place.py"], "screen": {"filters": ["place", "aspect"]}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    archive = tmp_path / "environment.tar.gz"
    pack(archive, _not_imported(tmp_path))
    # The executors cannot import the checkout.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    cluster = Cluster(tmp_path / "cluster", environment)
    try:
        cluster.wait()
        conf = {
            "spark.archives": f"{archive}#environment",
            "spark.pyspark.python": "./environment/bin/python",
            "spark.pyspark.driver.python": sys.executable,
        }
        arguments = ["--recipe", "recipe.yaml", "--store", "store", "--until", "screen"]
        _submit(cluster, tmp_path, "run.py", *arguments, conf=conf)
    finally:
        cluster.stop()
    places = open_table(Store(tmp_path / "store"), "scores").read(["place"])["place"].to_pylist()
    assert len(places) == 24
    assert all(re.search(r"/cluster/worker-\d/app-.*/environment$", place) for place in places)
