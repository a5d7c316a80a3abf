"""Kills a task whose driver is at work; prints whether the driver still is."""

import subprocess
import sys

import psutil
from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook

from curation.airflow.operator import CurationOperator

# As `spark-submit` does: Java, which starts the driver.
DRIVER = "import sys; print('at work', flush=True); sys.stdin.read()"
JAVA = (
    "import subprocess, sys; "
    f"p = subprocess.Popen([sys.executable, '-c', {DRIVER!r}]); print(p.pid, flush=True); p.wait()"
)

task = CurationOperator(task_id="ingest", stages=["ingest"])
task._hook = SparkSubmitHook(conn_id="absent")
java = subprocess.Popen(
    [sys.executable, "-c", JAVA], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
)
assert java.stdout is not None
driver = psutil.Process(int(java.stdout.readline()))
assert java.stdout.readline() == "at work\n"
task._hook._submit_sp = java
task.on_kill()
java.wait(30)
psutil.wait_procs([driver], 10)
# Where nobody waits for it, it stays in the table of processes.
ended = not driver.is_running() or driver.status() == psutil.STATUS_ZOMBIE
print("RESULT", "ended" if ended else "at work")
