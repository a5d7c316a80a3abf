"""Configuration of clusters, and the device of a task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyspark
import pytest

from curation.engine import spark
from curation.engine.cluster import Cluster, load_cluster, spark_conf, with_secret
from curation.engine.device import device_of_task, local_devices, task_device
from curation.engine.spark import UI
from curation.errors import RecipeError
from curation.secrets import conceal, forget_secrets


def test_gpus_become_spark_resources_where_the_cluster_has_them() -> None:
    cluster = Cluster(gpus=True, conf={"spark.executor.cores": 4, "spark.ui.enabled": False})
    conf = spark_conf(cluster, 1)
    assert conf["spark.executor.resource.gpu.amount"] == "1"
    assert conf["spark.ui.enabled"] == "false"
    assert "spark.executor.resource.gpu.amount" not in spark_conf(cluster, 0)
    assert "spark.executor.resource.gpu.amount" not in spark_conf(Cluster(), 1)


@pytest.mark.parametrize("name", ["local", "standalone", "yarn", "k8s"])
def test_packaged_clusters_load(name: str) -> None:
    assert load_cluster(name).conf


@pytest.mark.parametrize("name", ["standalone", "yarn", "k8s"])
def test_clusters_of_several_machines_are_closed(name: str) -> None:
    conf = spark_conf(load_cluster(name))
    for wanted in (
        "spark.authenticate",
        "spark.network.crypto.enabled",
        "spark.io.encryption.enabled",
    ):
        assert conf[wanted] == "true"
    assert conf["spark.network.crypto.cipher"] == "AES/GCM/NoPadding"
    assert conf["spark.ui.enabled"] == "false"


def test_a_local_cluster_listens_on_loopback_and_asks_for_its_secret() -> None:
    conf = spark_conf(load_cluster("local"))
    assert conf["spark.driver.host"] == conf["spark.driver.bindAddress"] == "127.0.0.1"
    assert (conf["spark.authenticate"], conf["spark.ui.enabled"]) == ("true", "false")


def test_a_standalone_cluster_takes_its_secret_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forget_secrets()
    cluster = load_cluster("standalone")
    settings = spark_conf(cluster)
    monkeypatch.delenv("CURATION_SPARK_SECRET", raising=False)
    with pytest.raises(RecipeError, match="Set CURATION_SPARK_SECRET"):
        with_secret(settings, cluster.master)
    monkeypatch.setenv("CURATION_SPARK_SECRET", "a-long-random-text")
    with_it = with_secret(settings, cluster.master)
    assert with_it == settings | {"spark.authenticate.secret": "a-long-random-text"}
    assert conceal("the secret is a-long-random-text") == "the secret is ***"
    for master in ("local[2]", "yarn", "k8s://h", None):
        assert with_secret(settings, master) == settings
    open_one = settings | {"spark.authenticate": "false"}
    assert with_secret(open_one, cluster.master) == open_one
    forget_secrets()


def test_a_cluster_file_names_a_file_with_the_secret_that_only_its_owner_reads(
    tmp_path: Path,
) -> None:
    forget_secrets()
    settings, master = spark_conf(load_cluster("standalone")), "spark://h:7077"
    file = tmp_path / "secret"
    with pytest.raises(RecipeError, match=r"secret_file: .* cannot be read"):
        with_secret(settings, master, str(file))
    file.write_text("a-long-random-text\n")
    for mode in (0o640, 0o604):
        file.chmod(mode)
        with pytest.raises(RecipeError, match=f"chmod 600 {file}"):
            with_secret(settings, master, str(file))
    file.chmod(0o600)
    with_it = with_secret(settings, master, str(file))
    assert with_it == settings | {"spark.authenticate.secret": "a-long-random-text"}
    assert conceal("the secret is a-long-random-text") == "the secret is ***"
    forget_secrets()


def output_of(code: str, **variables: str) -> str:
    """What a program prints, which has a Spark of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env=os.environ | variables,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


SECRET_SETTINGS = """
import subprocess
from pathlib import Path
from curation.engine.cluster import Cluster
from curation.engine.spark import open_context
# In parts, since this text is on a command line itself.
SECRET = "Zq8v" + "Kp2m" + "X4rT"
conf = {"spark.ui.enabled": False, "spark.driver.host": "127.0.0.1", "spark.driver.memory": "700m",
        "spark.authenticate": True, "spark.authenticate.secret": SECRET}
context = open_context("x", Cluster(master="local[1]", conf=conf))
settings = context.getConf()
assert settings.get("spark.authenticate.secret") == SECRET
assert settings.get("spark.driver.memory") == "700m"
lines = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
assert any(b"700m" in line for line in lines)
assert not any(SECRET.encode() in line for line in lines)
assert any(b"-XX:TieredStopAtLevel=1" in line and b"700m" in line for line in lines)
redacted = context._jvm.java.util.regex.Pattern.compile(settings.get("spark.redaction.regex"))
for name in ("hadoop.fs.azure.account.key.a.example", "hadoop.fs.azure.sas.c.a.example", "x.token"):
    assert redacted.matcher("spark." + name).find(), name
for name in ("driver.memory", "io.encryption.keySizeBits", "app.name"):
    assert not redacted.matcher("spark." + name).find(), name
assert context.parallelize(range(8), 4).map(lambda n: n).sum() == 28
context.stop()
print("closed")
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="lists processes by /proc")
def test_no_secret_setting_is_on_a_command_line() -> None:
    assert output_of(SECRET_SETTINGS) == "closed\n"


OPTIONS_OF_JAVA = """
from curation.engine.cluster import Cluster
from curation.engine.spark import open_context
options = "-Dcuration.test=yes -XX:TieredStopAtLevel=4"
conf = {"spark.ui.enabled": False, "spark.driver.host": "127.0.0.1",
        "spark.driver.extraJavaOptions": options}
context = open_context("x", Cluster(master="local[1]", conf=conf))
java = context._jvm.java.lang
print(java.System.getProperty("curation.test"))
print(java.System.getProperty("log4j2.configurationFile").rpartition("/")[2])
arguments = java.management.ManagementFactory.getRuntimeMXBean().getInputArguments()
print([a for a in arguments if "Tiered" in a][-1])
context.stop()
"""


def test_options_of_java_in_a_cluster_file_are_added_and_come_last() -> None:
    lines = output_of(OPTIONS_OF_JAVA).split()
    assert lines == ["yes", "log4j2.properties", "-XX:TieredStopAtLevel=4"]


SHUFFLES = """
import os, sys, threading, time
from pathlib import Path
from curation.engine.cluster import Cluster
from curation.engine.parallel import ShuffleJob
from curation.engine.spark import open_context
from curation.engine.spark_workers import SparkWorkers

def send(item):
    for part in range(2):
        yield part, bytes(100_000)

def receive(part, messages):
    return len(messages)

def files():
    return {path.name for path in Path(os.environ["SPARK_LOCAL_DIRS"]).rglob("shuffle_*")}

conf = {"spark.ui.enabled": False, "spark.driver.host": "127.0.0.1"}
first = open_context("x", Cluster(master="local[1]", conf=conf))
assert first.getConf().get("spark.cleaner.periodicGC.interval") == "1min"
first.stop()
conf |= {"spark.cleaner.periodicGC.interval": "1s"}
workers = SparkWorkers(lambda: open_context("x", Cluster(master="local[1]", conf=conf)))
job = ShuffleJob("messages", send, range(3), receive, [0, 1])
workers.exchange(job)
old = files()
assert old
# What Spark still holds of the last job, it lets go with the next.
workers.exchange(job)
end, pause = time.monotonic() + 60, threading.Event()
while old & files() and time.monotonic() < end:
    pause.wait(0.1)
print(len(old & files()))
workers.stop()
"""


def test_the_files_of_a_shuffle_that_is_over_are_removed_while_the_run_goes_on(
    tmp_path: Path,
) -> None:
    assert output_of(SHUFFLES, SPARK_LOCAL_DIRS=str(tmp_path)) == "0\n"


def test_unknown_cluster_lists_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="local"):
        load_cluster("moon")
    path = tmp_path / "c.yaml"
    path.write_text("mastr: local")
    with pytest.raises(RecipeError, match="mastr"):
        load_cluster(str(path))


def test_a_cluster_file_may_end_as_yaml_files_do(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text("\ufeffmaster: local[3]")
    assert load_cluster(str(path)).master == "local[3]"


@pytest.mark.parametrize(
    "content",
    [
        b"conf: {spark.executor.cores: 4, spark.executor.cores: 8}",
        b"conf:\n  spark.executor.cores: 010",
        "# Gr\u00f6\u00dfe\nmaster: local".encode("latin-1"),
        b"[" * 20_000,
        b"- master",
        b"conf: [spark.executor.cores]",
        b"conf:\n  spark.authenticate.secret: a-long: random-text",
    ],
)
def test_a_cluster_file_that_says_something_else_than_it_seems_is_refused(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as raised:
        load_cluster(str(path))
    assert str(path) in str(raised.value)
    assert "random-text" not in conceal(str(raised.value))


def test_without_a_task_the_device_is_the_first_of_the_machine() -> None:
    import torch

    count = torch.cuda.device_count()
    assert local_devices() == (tuple(f"cuda:{n}" for n in range(count)) or ("cpu",))
    assert task_device() == local_devices()[0]


def test_tasks_without_an_assigned_gpu_share_those_of_the_machine() -> None:
    devices = ("cuda:0", "cuda:1", "cuda:2")
    assert [device_of_task(devices, task) for task in range(4)] == [*devices, "cuda:0"]
    assert device_of_task(("cpu",), 5) == "cpu"


TWO_GPUS = """
import json, time
from pathlib import Path
from curation.engine.device import task_device
from curation.engine.spark_workers import SparkWorkers
from curation.engine.cluster import Cluster
from curation.engine.spark import open_context

def meet(item):
    # Each task waits until all of its group have started, so it returns only if they run at once.
    name, number, all_of_them = item
    (Path({folder!r}) / f"{{name}}-{{number}}").touch()
    until = time.monotonic() + 60
    while len(list(Path({folder!r}).glob(f"{{name}}-*"))) < all_of_them:
        assert time.monotonic() < until, f"{{all_of_them}} tasks {{name}} never ran at once"
        time.sleep(0.01)
    return task_device()

conf = {{
    "spark.ui.enabled": False,
    "spark.driver.host": "127.0.0.1",
    "spark.executor.cores": 4,
    "spark.worker.resource.gpu.amount": 2,
    "spark.worker.resource.gpu.discoveryScript": {script!r},
    "spark.executor.resource.gpu.amount": 2,
    "spark.executor.resource.gpu.discoveryScript": {script!r},
}}
cluster = Cluster(master="local-cluster[1,4,1024]", gpus=True, conf=conf)
context = open_context("gpus", cluster, gpus=1)
workers = SparkWorkers(lambda: context)
devices = workers.map("on GPUs", meet, [("gpu", n, 2) for n in range(2)], gpu=True)
# Only two tasks with a GPU run at once, but four without, on the same executor.
plain = workers.map("on cores", meet, [("plain", n, 4) for n in range(4)])
print("RESULT " + json.dumps([sorted(devices), plain]))
context.stop()
"""


def test_tasks_on_gpus_get_one_each_and_other_tasks_use_every_core(tmp_path: Path) -> None:
    """A local cluster whose executor reports two GPUs, which the machine does not need to have."""
    script = tmp_path / "gpus.sh"
    script.write_text('#!/bin/sh\necho \'{"name": "gpu", "addresses": ["0", "1"]}\'\n')
    script.chmod(0o755)
    code = TWO_GPUS.format(folder=str(tmp_path), script=str(script))
    (line,) = (x for x in output_of(code).splitlines() if x.startswith("RESULT "))
    devices, plain = json.loads(line.removeprefix("RESULT "))
    assert devices == ["cuda:0", "cuda:1"]
    assert plain == [local_devices()[0]] * 4


@pytest.mark.parametrize(
    ("submitted", "conf", "expected"),
    [({}, {}, "false"), ({"spark.ui.enabled": "true"}, {}, None), ({}, {UI: True}, "true")],
)
def test_the_web_page_of_spark_is_off_unless_somebody_asked_for_it(
    submitted: dict[str, str],
    conf: dict[str, Any],
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under spark-submit, too: it has no password, and Spark serves it on all addresses."""
    opened = []

    def open_session(conf: pyspark.SparkConf) -> Any:
        opened.append(dict(conf.getAll()))
        return SimpleNamespace(uiWebUrl=None)

    monkeypatch.setattr(spark, "ensure_java", lambda: None)
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setattr(spark, "submitted_settings", lambda: submitted)
    # Java, where other tests have started it, has settings of its own.
    monkeypatch.setattr(pyspark, "SparkConf", partial(pyspark.SparkConf, loadDefaults=False))
    monkeypatch.setattr(pyspark.SparkContext, "getOrCreate", open_session)
    spark.open_context("page", Cluster(master="yarn", conf=conf))
    assert opened[0].get(UI) == expected
