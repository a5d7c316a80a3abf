"""The DAG of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset

from curation.airflow.operator import CurationOperator
from curation.airflow.params import beside, params_of
from curation.airflow.sessions import Sessions, share_sessions
from curation.airflow.telemetry import Telemetry
from curation.engine.cluster import Cluster, load_cluster
from curation.flow import Step, plan
from curation.recipe import load_recipe
from curation.stages.assemble.params import STAGE as ASSEMBLE

GPU_POOL = "curation_gpu"
"""The pool of tasks that use GPUs. It must exist: `airflow pools set curation_gpu 1 GPUs`."""
RETRIES = {
    "retries": 3,
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=30),
    "execution_timeout": timedelta(days=3),
}
"""Defaults of the tasks: an attempt resumes what the last one finished."""


def curation_dag(
    dag_id: str,
    *,
    recipe: str,
    store: str,
    cluster: str = "local",
    sessions: Sessions = "resources",
    telemetry: Telemetry | None = None,
    **options: Any,
) -> DAG:
    """Return the DAG of a recipe.

    Every run may set the parameters recipe, store, cluster, from, until, retry and force; others are
    refused. Relative paths start at the folder of the recipe.

    Args:
        dag_id: name of the DAG.
        recipe: path of the recipe.
        store: folder or URI of the store.
        cluster: name of a file in `conf/clusters`, or the path of one.
        sessions: which stages share a task.
        telemetry: metrics, lineage events and logs of the tasks.
        options: arguments of `DAG`, such as `schedule` or `on_failure_callback`; `default_args` are
            added to RETRIES.

    Raises:
        RecipeError: the recipe or the cluster is not valid.
    """
    recipe = str(Path(recipe).absolute())
    with beside(recipe):
        steps, on = plan(load_recipe(recipe)), load_cluster(cluster)
    default_args = RETRIES | options.pop("default_args", {})
    settings = {"schedule": None, "catchup": False, "max_active_runs": 1, "tags": ["curation"]}
    with DAG(
        dag_id,
        params=params_of(recipe, store, cluster),
        default_args=default_args,
        **settings | options,
    ) as dag:
        groups = share_sessions(steps, on, sessions)
        add_tasks(dag_id, groups, on, telemetry or Telemetry())
    return dag


def add_tasks(
    dag_id: str, groups: Sequence[Sequence[Step]], cluster: Cluster, telemetry: Telemetry
) -> None:
    """Add the tasks of a plan to the DAG that is being defined.

    Args:
        dag_id: name of the DAG, after which the asset of its dataset is named.
        groups: the steps of each task, in order.
        cluster: where it runs by default.
        telemetry: metrics, lineage events and logs of the tasks.
    """
    tasks: dict[str, CurationOperator] = {}
    for group in groups:
        ends = group[-1].stage is ASSEMBLE
        on_gpu = cluster.gpus and any(step.stage.gpu for step in group)
        task_id = group[0].name if len(group) == 1 else f"{group[0].name}-{group[-1].name}"
        task = CurationOperator(
            task_id=task_id,
            stages=[step.name for step in group],
            job_options=telemetry.options(dag_id, task_id),
            outlets=[dataset_asset(dag_id)] if ends else [],
            # A task whose stages a run leaves out is skipped; those after it run.
            trigger_rule="none_failed",
            **({"pool": GPU_POOL} if on_gpu else {}),
        )
        for upstream in {tasks[name] for step in group for name in step.upstream if name in tasks}:
            upstream >> task
        tasks |= {step.name: task for step in group}


def dataset_asset(dag_id: str) -> Asset:
    """Return the asset of the dataset of a DAG: schedule other DAGs by it.

    Its events have the version, the rows, the shortfalls and the report.
    """
    return Asset(name=f"curation-{dag_id}", uri=f"x-curation://{dag_id}/dataset", group="curation")
