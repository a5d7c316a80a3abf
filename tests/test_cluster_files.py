"""The files of clusters: Spark knows their settings, and spark-submit takes them."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from curation.engine.cluster import as_properties, load_cluster, spark_conf
from scripts.spark_properties import properties

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("local", "standalone", "yarn", "k8s")
OBJECTS = (
    "org.apache.spark.internal.config.package$",
    *(
        f"org.apache.spark.internal.config.{name}$"
        for name in ("Network", "Python", "UI", "Deploy")
    ),
    "org.apache.spark.deploy.yarn.config.package$",
    "org.apache.spark.deploy.k8s.Config$",
    "org.apache.spark.sql.internal.SQLConf$",
)
"""Objects of Spark that hold its settings; the first use of each adds them to the known ones."""
RESOURCE = r"spark\.(executor|driver|worker|task)\.resource\.\w+\.(amount|discoveryScript|vendor)"
TRANSPORT = {"spark.network.crypto.cipher": "cipherTransformation"}
"""Settings of Spark's network library, which has no list of them; each with what reads it."""


def entry_of(jvm: Any, key: str) -> Any:
    """Spark's own description of a setting; None if it knows none."""
    java_class = jvm.java.lang.Class.forName
    for name in OBJECTS:
        java_class(name)
    module = java_class("org.apache.spark.internal.config.ConfigEntry$")
    return module.getField("MODULE$").get(None).findEntry(key)


def _of_transport(jvm: Any, key: str, value: str) -> Any:
    """What Spark's network library makes of one setting."""
    util = jvm.org.apache.spark.network.util
    settings = jvm.java.util.HashMap()
    settings.put(key, value)
    conf = util.TransportConf("rpc", util.MapConfigProvider(settings))
    return getattr(conf, TRANSPORT[key])()


@pytest.mark.parametrize("name", NAMES)
def test_spark_knows_every_setting_and_its_value(spark: SparkSession, name: str) -> None:
    jvm = spark.sparkContext._jvm
    for key, value in spark_conf(load_cluster(name), 1).items():
        if re.fullmatch(RESOURCE, key):
            continue
        if key in TRANSPORT:
            assert _of_transport(jvm, key, value) == value
            continue
        entry = entry_of(jvm, key)
        assert entry is not None, key
        # Raises if the value is not of the kind that the setting has.
        entry.valueConverter().apply(value)


def test_a_setting_that_spark_does_not_know_is_found(spark: SparkSession) -> None:
    assert entry_of(spark.sparkContext._jvm, "spark.executor.memoryOverheads") is None


@pytest.mark.parametrize(
    ("name", "options", "main_class"),
    [
        ("yarn", ["--master", "yarn"], "YarnClusterApplication"),
        (
            "k8s",
            ["--master", "k8s://https://127.0.0.1:6443"]
            + ["--conf", "spark.kubernetes.container.image=registry/curation"],
            "KubernetesClientApplication",
        ),
    ],
)
def test_spark_submit_takes_the_settings(
    spark: SparkSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: list[str],
    main_class: str,
) -> None:
    """What spark-submit does before it asks a cluster for anything."""
    (tmp_path / "p.conf").write_text(properties(name, True))
    job = "local:///opt/curation/jobs/run.py"
    words = [*options, "--deploy-mode", "cluster", "--properties-file", str(tmp_path / "p.conf")]
    jvm = spark.sparkContext._jvm
    assert jvm is not None
    java_class = jvm.java.lang.Class.forName
    environment = (
        java_class("scala.collection.immutable.Map$").getField("MODULE$").get(None).empty()
    )
    arguments = jvm.org.apache.spark.deploy.SparkSubmitArguments(
        jvm.PythonUtils.toSeq([*words, job, "--recipe", "r.yaml"]),
        environment.updated("YARN_CONF_DIR", str(tmp_path)),
    )
    nothing = java_class("scala.None$").getField("MODULE$").get(None)
    prepared = jvm.org.apache.spark.deploy.SparkSubmit().prepareSubmitEnvironment(
        arguments, nothing
    )
    assert prepared._4().endswith(main_class)
    settings = prepared._3()
    for key, value in spark_conf(load_cluster(name), 1).items():
        assert settings.get(key, "") == value, key


@pytest.mark.parametrize("name", ["yarn", "k8s"])
def test_files_of_clusters_are_complete(name: str) -> None:
    conf = spark_conf(load_cluster(name), 1)
    for key in (
        *("spark.driver.memory", "spark.driver.maxResultSize", "spark.speculation"),
        *("spark.executor.cores", "spark.executor.memory", "spark.executor.memoryOverhead"),
        *("spark.dynamicAllocation.enabled", "spark.executor.resource.gpu.discoveryScript"),
    ):
        assert key in conf
    # Executors are removed only where what they sent to others stays.
    assert "true" in (
        conf.get("spark.shuffle.service.enabled"),
        conf.get("spark.dynamicAllocation.shuffleTracking.enabled"),
    )


@pytest.mark.parametrize(("indices", "addresses"), [("0\n1\n7\n", ["0", "1", "7"]), ("", [])])
def test_the_script_tells_spark_the_gpus(
    tmp_path: Path, indices: str, addresses: list[str]
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{indices!r}'\n".replace("''", "'"))
    (tmp_path / "nvidia-smi").chmod(0o755)
    script = ROOT / "conf" / "clusters" / "get_gpus.sh"
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([str(script)], env=path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"name": "gpu", "addresses": addresses}
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    failed = subprocess.run([str(script)], env=path, capture_output=True, check=False)
    assert failed.returncode != 0


def _instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_has_what_the_project_pins_and_what_it_copies_is_sent() -> None:
    """No image is built: this machine has no registry."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    instructions = _instructions()
    versions = dict(rest.split("=") for word, rest in instructions if word == "ARG" and "=" in rest)
    assert f"\npyspark=={versions['SPARK']} " in pins
    (uv,) = set(re.findall(r"uv==[\d.]+", str(instructions)))
    assert f"\n{uv} " in pins
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = [line[1:] for line in ignore if line.startswith("!")]
    assert "*" in ignore
    for word, rest in instructions:
        if word == "COPY" and not rest.startswith("--from"):
            for path in rest.split()[:-1]:
                assert (ROOT / path).exists(), path
                assert any(fnmatch.fnmatch(path, pattern) for pattern in sent), path
    assert ("USER", "185") in instructions
    workdir = dict(instructions)["WORKDIR"]
    conf = spark_conf(load_cluster("k8s"), 1)
    script = Path(conf["spark.executor.resource.gpu.discoveryScript"])
    assert (ROOT / script.relative_to(workdir)).is_file()
    assert conf["spark.pyspark.python"] == f"{workdir}/.venv/bin/python"


def test_java_reads_the_settings_that_a_file_of_properties_has(spark: SparkSession) -> None:
    settings = {
        "spark.a": "x y",
        "spark.key": "ab+/=#!:\\n",
        "spark.empty": "",
        "spark.lines": "first\nsecond\r ",
        "spark.b:c d": " leading",
    }
    jvm = spark.sparkContext._jvm
    assert jvm is not None
    read = jvm.java.util.Properties()
    read.load(jvm.java.io.StringReader(as_properties(settings)))
    assert dict(read) == settings
