"""One DAG for one recipe: a spark-submit task a step, with the edges of the plan.

Environment: CURATION_RECIPE and CURATION_STORE (required); CURATION_CLUSTER (default `local`),
CURATION_HOME (the checkout), CURATION_VENV (its environment). The Airflow connection `spark_default`
says which master; see docs/operating.md.
"""

import os
import sys
from pathlib import Path

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG

HOME = Path(os.environ.get("CURATION_HOME", Path(__file__).resolve().parent.parent))
VENV = Path(os.environ.get("CURATION_VENV", HOME / ".venv"))
sys.path.insert(0, str(HOME))

from curation.engine.spark import load_cluster, spark_conf  # noqa: E402
from curation.flow import plan  # noqa: E402
from curation.recipe import load_recipe  # noqa: E402

RECIPE, STORE = os.environ["CURATION_RECIPE"], os.environ["CURATION_STORE"]
CLUSTER = load_cluster(os.environ.get("CURATION_CLUSTER", "local"))

with DAG(dag_id="curation", schedule=None, catchup=False, tags=["curation"]) as dag:
    tasks = {}
    for step in plan(load_recipe(RECIPE)):
        tasks[step.name] = SparkSubmitOperator(
            task_id=step.name,
            application=str(HOME / step.stage.job),
            application_args=["--recipe", RECIPE, "--store", STORE],
            conf=spark_conf(CLUSTER, int(step.stage.gpu)),
            env_vars={"PYSPARK_PYTHON": str(VENV / "bin" / "python")},
            spark_binary=str(VENV / "bin" / "spark-submit"),
        )
        for name in step.upstream:
            tasks[name] >> tasks[step.name]
