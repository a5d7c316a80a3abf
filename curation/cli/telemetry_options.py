"""The options by which a run tells other programs what it does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from curation.runner.observer import RunObserver
from curation.store.store import Store

TARGET_VARIABLE = "CURATION_OPENLINEAGE"
"""The variable that says where events go, for jobs whose arguments others write, as Airflow."""
PARENT_VARIABLE = "OPENLINEAGE_PARENT_ID"
"""The variable with the parent run, as clients of OpenLineage know it."""
METRICS_HELP = (
    "File to write metrics to after each stage, in OpenMetrics text; for node_exporter, name it "
    "*.prom."
)
OPENLINEAGE_HELP = (
    "Where OpenLineage events go: a file, which gets one JSON object a line, or the http(s) address of "
    "a server."
)
PARENT_HELP = (
    "Parent run of the events, as NAMESPACE/JOB/RUN-ID. The default is the variable "
    f"{PARENT_VARIABLE}, or what Airflow's provider put into the settings of Spark."
)


@dataclass(frozen=True)
class TelemetryOptions:
    """What a run was asked to tell.

    Attributes:
        metrics: the file of metrics.
        openlineage: where lineage events go.
        parent: the parent run of the events.
    """

    metrics: str | None = None
    openlineage: str | None = None
    parent: str | None = None

    @property
    def lineage_target(self) -> str | None:
        """Where lineage events go; None if nobody asked for them."""
        return self.openlineage or os.environ.get(TARGET_VARIABLE) or None

    def empty_metrics(self) -> None:
        """Empty the file of metrics: what an earlier run left there is not of one that is refused.

        Raises:
            RecipeError: it cannot be written.
        """
        if self.metrics is not None:
            from curation.telemetry.metrics import MetricsFile

            MetricsFile(self.metrics)

    def observers(self, store: Store, spark: Mapping[str, str]) -> list[RunObserver]:
        """Return who is told what a run does.

        Args:
            store: where its tables are.
            spark: the settings that spark-submit passed on.

        Raises:
            RecipeError: a file cannot be written, or an option is not valid.
        """
        from curation.telemetry.log_fields import LogFields

        observers: list[RunObserver] = [LogFields()]
        if self.metrics is not None:
            from curation.telemetry.metrics import MetricsFile

            observers.append(MetricsFile(self.metrics))
        target = self.lineage_target
        if target is not None:
            observers.append(self._lineage(target, store, spark))
        elif self.parent is not None:
            from curation.errors import Detail, RecipeError

            message, fix = "it has no effect without --openlineage", "Add --openlineage FILE|URL"
            raise RecipeError(Detail(message, "--openlineage-parent", self.parent, fix=fix))
        return observers

    def _lineage(self, target: str, store: Store, spark: Mapping[str, str]) -> RunObserver:
        from curation.telemetry.event_sink import open_sink
        from curation.telemetry.openlineage import LineageEvents
        from curation.telemetry.parent_run import ParentRun, parent_of_settings, parse_parent

        if self.parent:
            parent: ParentRun | None = parse_parent(self.parent)
        elif named := os.environ.get(PARENT_VARIABLE):
            parent = parse_parent(named, PARENT_VARIABLE)
        else:
            parent = parent_of_settings(spark)
        return LineageEvents(store, open_sink(target), parent)
