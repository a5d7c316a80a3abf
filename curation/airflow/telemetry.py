"""Metrics, lineage events and logs of the tasks of a DAG: the options of their jobs for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from curation.errors import RecipeError, unknown
from curation.logs import LogFormat


@dataclass(frozen=True)
class Telemetry:
    """Metrics, lineage events and logs of tasks. Relative paths start at the folder of the recipe.

    Attributes:
        metrics: an existing folder; each task writes its metrics to `<dag>-<task>.prom` in it.
        openlineage: a file for lineage events, or the http(s) address of a server.
        log_format: of the logs of tasks.

    Raises:
        RecipeError: the form of logs is unknown.
    """

    metrics: str | None = None
    openlineage: str | None = None
    log_format: LogFormat = "text"

    def __post_init__(self) -> None:
        if self.log_format not in get_args(LogFormat):
            valid = get_args(LogFormat)
            raise RecipeError(
                unknown("form of logs", self.log_format, valid, where="CURATION_LOG_FORMAT")
            )

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Telemetry:
        """Return what CURATION_METRICS, CURATION_OPENLINEAGE and CURATION_LOG_FORMAT ask for."""
        log_format: LogFormat = variables.get("CURATION_LOG_FORMAT") or "text"  # type: ignore[assignment]
        return cls(
            variables.get("CURATION_METRICS") or None,
            variables.get("CURATION_OPENLINEAGE") or None,
            log_format,
        )

    def options(self, dag_id: str, task_id: str) -> list[str]:
        """Return the options of the job of a task."""
        file = f"{self.metrics}/{dag_id}-{task_id}.prom"
        return [
            *(["--metrics", file] if self.metrics else []),
            *(["--openlineage", self.openlineage] if self.openlineage else []),
            *(["--log-format", self.log_format] if self.log_format != "text" else []),
        ]
