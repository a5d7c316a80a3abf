"""A standalone cluster of two workers on loopback, whose processes a test can kill."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pyspark

from curation.engine.cluster import load_cluster
from curation.engine.java import ensure_java

SECRET = "a-secret-of-the-test"
DAEMONS = {
    "spark.authenticate": "true",
    "spark.authenticate.secret": SECRET,
    "spark.network.crypto.enabled": "true",
    "spark.network.crypto.cipher": "AES/GCM/NoPadding",
}
"""The properties of the daemons, as docs/operating.md has them."""


class Standalone:
    """A master and two workers, each a process group of its own."""

    def __init__(self, folder: Path) -> None:
        ensure_java()
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def start(self) -> None:
        self._launch("master", "master.Master", "--host", "127.0.0.1", "--port", "0")
        self.address = self._logged("master", r"Starting Spark master at (spark://\S+)")
        for number in range(2):
            name = f"worker-{number}"
            options = ["--host", "127.0.0.1", "--cores", "1", "--memory", "2g"]
            folder = ["--work-dir", str(self.folder / name)]
            self._launch(name, "worker.Worker", *options, *folder, self.address)
        for number in range(2):
            self._logged(f"worker-{number}", r"Successfully registered with master (\S+)")

    def _launch(self, name: str, entry: str, *arguments: str) -> None:
        program = Path(pyspark.__file__).parent / "bin" / "spark-class"
        properties = self.folder / "spark-defaults.conf"
        properties.write_text("\n".join(f"{n} {v}" for n, v in DAEMONS.items()))
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(
                    [str(program), f"org.apache.spark.deploy.{entry}", "--webui-port", "0"]
                    + ["--properties-file", str(properties), *arguments],
                    stdout=log,
                    stderr=log,
                    env=os.environ | {"SPARK_LOCAL_IP": "127.0.0.1"},
                    start_new_session=True,
                )
            )

    def _logged(self, name: str, words: str) -> str:
        log = self.folder / f"{name}.log"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            match = re.search(words, log.read_text(errors="replace"))
            if match:
                return match[1]
            time.sleep(0.1)
        raise AssertionError(f"{name} did not start:\n{log.read_text(errors='replace')[-3000:]}")

    @property
    def cluster_file(self) -> dict[str, Any]:
        """The content of a cluster file of it; CURATION_SPARK_SECRET must be SECRET."""
        conf = load_cluster("standalone").conf | {
            "spark.driver.host": "127.0.0.1",
            "spark.executor.cores": 1,
            "spark.executor.memory": "1g",
        }
        return {"master": self.address, "conf": conf}

    def kill(self, number: int) -> None:
        """Kill a worker with its executors."""
        os.killpg(self.processes[1 + number].pid, signal.SIGKILL)

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
