"""The run that started this one, such as a task of Airflow, as OpenLineage identifies it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from curation.errors import RecipeError

SPARK_PREFIX = "spark.openlineage."
"""How the settings begin by which Airflow's provider passes the parent on to Spark."""
_PARENT = ("parentJobNamespace", "parentJobName", "parentRunId")
_ROOT = ("rootParentJobNamespace", "rootParentJobName", "rootParentRunId")


@dataclass(frozen=True)
class RunIdentity:
    """A run of a job.

    Attributes:
        namespace: namespace of the job.
        job: name of the job.
        run_id: id of the run.
    """

    namespace: str
    job: str
    run_id: UUID

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the facet of parents."""
        return {
            "run": {"runId": str(self.run_id)},
            "job": {"namespace": self.namespace, "name": self.job},
        }


@dataclass(frozen=True)
class ParentRun:
    """The parent of a run.

    Attributes:
        run: the parent.
        root: the first of all parents.
    """

    run: RunIdentity
    root: RunIdentity

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the facet of parents."""
        return self.run.to_json() | {"root": self.root.to_json()}


def parse_parent(text: str, where: str = "--openlineage-parent") -> ParentRun:
    """Return the parent that is written as `namespace/job/run id`, as Airflow's macro writes it.

    Args:
        text: the parent.
        where: the option or the variable that has it.

    Raises:
        RecipeError: it is not.
    """
    parts = text.split("/")
    try:
        namespace, job, run_id = parts[0], "/".join(parts[1:-1]), UUID(parts[-1])
        if not namespace or not job:
            raise ValueError("a part is missing")
    except ValueError as error:
        raise RecipeError(
            f"{where} {text!r} is no parent ({error})",
            fix=(
                "Write NAMESPACE/JOB/RUN-ID, with a UUID as the id, as the macro "
                "lineage_parent_id of Airflow's provider does"
            ),
        ) from error
    run = RunIdentity(namespace, job, run_id)
    return ParentRun(run, run)


def parent_of_settings(settings: Mapping[str, str]) -> ParentRun | None:
    """Return the parent that Airflow's provider put into the settings of Spark; None without one.

    Raises:
        RecipeError: a setting is missing, or an id is no UUID.
    """
    run = _of_settings(settings, _PARENT)
    if run is None:
        return None
    return ParentRun(run, _of_settings(settings, _ROOT) or run)


def _of_settings(settings: Mapping[str, str], names: tuple[str, str, str]) -> RunIdentity | None:
    values = [settings.get(f"{SPARK_PREFIX}{name}") for name in names]
    if not any(values):
        return None
    try:
        namespace, job, run_id = (value or "" for value in values)
        if not namespace or not job:
            raise ValueError("a setting is missing")
        return RunIdentity(namespace, job, UUID(run_id))
    except ValueError as error:
        wanted = ", ".join(f"{SPARK_PREFIX}{name}" for name in names)
        raise RecipeError(
            f"The settings of Spark name no whole parent run ({error})",
            fix=f"Set all of {wanted}, the last to a UUID, or none",
        ) from error
