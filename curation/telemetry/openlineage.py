"""OpenLineage events of a run and its stages, by the specification 2-0-2.

The run of a recipe is a run of the job `<recipe>`, and each stage one of the job `<recipe>.<stage>`,
whose parent it is. A stage that ended names the exact versions of what it read and wrote.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, UUID, uuid5

from curation.errors import text_of
from curation.flow import Step
from curation.masking import mask_address
from curation.runner.observer import RunObserver
from curation.runner.step import StepResult
from curation.secrets import conceal
from curation.stages.ingest.params import IngestStep
from curation.store.manifest import Manifest
from curation.store.run_record import RunRecord
from curation.store.store import Store
from curation.telemetry.event_sink import EventSink
from curation.telemetry.parent_run import ParentRun, RunIdentity
from curation.version import __version__

NAMESPACE_VARIABLE = "OPENLINEAGE_NAMESPACE"
"""The variable with the namespace of jobs, as clients of OpenLineage know it."""
PRODUCER = f"urn:curation:{__version__}"
SPEC = "https://openlineage.io/spec"
RUN_EVENT = f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
FACETS = {
    "DatasetVersionDatasetFacet": "1-0-1",
    "ErrorMessageRunFacet": "1-0-1",
    "InputStatisticsInputDatasetFacet": "1-0-0",
    "JobTypeJobFacet": "2-0-4",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "ParentRunFacet": "1-2-0",
    "ProcessingEngineRunFacet": "1-1-1",
}
"""The facets that events have, and their versions."""


def facet(kind: str, **values: Any) -> dict[str, Any]:
    """Return a facet of one of FACETS."""
    schema = f"{SPEC}/facets/{FACETS[kind]}/{kind}.json#/$defs/{kind}"
    return {"_producer": PRODUCER, "_schemaURL": schema, **values}


@dataclass(frozen=True)
class Size:
    """How much a version of a table holds.

    Attributes:
        rows: number of rows.
        bytes: bytes of its files.
        files: number of files.
    """

    rows: int
    bytes: int
    files: int

    @staticmethod
    def of(manifest: Manifest) -> Size:
        """Return the size of a version."""
        return Size(manifest.rows, manifest.bytes, len(manifest.files))

    def to_json(self) -> dict[str, int]:
        """Return the fields of the facets of statistics."""
        return {"rowCount": self.rows, "size": self.bytes, "fileCount": self.files}


class LineageEvents(RunObserver):
    """Sends OpenLineage events of a run: START, and COMPLETE or FAIL, of it and of each stage.

    Args:
        store: where the tables are.
        sink: where events go.
        parent: the run that started this one, if one did.
        namespace: of the jobs; by default that of the environment, or `curation`.
    """

    def __init__(
        self, store: Store, sink: EventSink, parent: ParentRun | None, namespace: str | None = None
    ) -> None:
        self._store, self._sink, self._parent = store, sink, parent
        self._namespace = namespace or os.environ.get(NAMESPACE_VARIABLE) or "curation"
        self._run: RunIdentity | None = None
        self._record: RunRecord | None = None
        self._open: Step | None = None
        self._sizes: dict[tuple[str, str], Size] = {}

    def run_started(self, run: RunRecord, steps: Sequence[Step]) -> None:
        """See `RunObserver.run_started`."""
        self._record = run
        self._run = RunIdentity(self._namespace, run.recipe, _run_id(run.run))
        self._sink.send(run_event("START", self._run, self._parent, "RUN", {}))

    def step_started(self, step: Step) -> None:
        """See `RunObserver.step_started`."""
        self._open = step
        self._send_stage("START", step, sources_of(step), [], {})

    def step_ended(self, result: StepResult) -> None:
        """See `RunObserver.step_ended`."""
        self._open = None
        for manifest in result.manifests:
            self._sizes[manifest.table, manifest.version] = Size.of(manifest)
        inputs = [self._input(table, version) for table, version in result.reads.items()]
        outputs = [self._output(manifest) for manifest in result.manifests]
        sources = sources_of(result.step)
        self._send_stage("COMPLETE", result.step, [*sources, *inputs], outputs, {})

    def run_ended(self, error: BaseException | None) -> None:
        """See `RunObserver.run_ended`."""
        assert self._run is not None
        facets = {} if error is None else {"errorMessage": error_facet(error)}
        if self._open is not None:
            self._send_stage("FAIL", self._open, sources_of(self._open), [], facets)
            self._open = None
        kind = "COMPLETE" if error is None else "FAIL"
        event = run_event(kind, self._run, self._parent, "RUN", facets)
        self._sink.send(event, is_last=True)

    def _send_stage(
        self,
        kind: str,
        step: Step,
        inputs: list[dict[str, Any]],
        outputs: list[dict[str, Any]],
        facets: Mapping[str, Any],
    ) -> None:
        assert self._run is not None and self._record is not None
        name, run_id = f"{self._run.job}.{step.name}", _run_id(self._record.run, step.name)
        root = self._parent.root if self._parent else self._run
        event = run_event(
            kind,
            RunIdentity(self._namespace, name, run_id),
            ParentRun(self._run, root),
            "STAGE",
            facets,
        )
        self._sink.send(event | {"inputs": inputs, "outputs": outputs})

    def _input(self, table: str, version: str) -> dict[str, Any]:
        size = self._sizes.get((table, version)) or self._stored_size(table, version)
        dataset = self._dataset(table, version)
        if size is None:
            return dataset
        statistics = facet("InputStatisticsInputDatasetFacet", **size.to_json())
        return dataset | {"inputFacets": {"inputStatistics": statistics}}

    def _stored_size(self, table: str, version: str) -> Size | None:
        """Return the size of a version that an earlier run wrote; None if it cannot be read."""
        manifest = self._store.manifest(table, version)
        if manifest is None:
            return None
        return self._sizes.setdefault((table, version), Size.of(manifest))

    def _output(self, manifest: Manifest) -> dict[str, Any]:
        size = self._sizes[manifest.table, manifest.version]
        statistics = facet("OutputStatisticsOutputDatasetFacet", **size.to_json())
        return self._dataset(manifest.table, manifest.version) | {
            "outputFacets": {"outputStatistics": statistics}
        }

    def _dataset(self, table: str, version: str) -> dict[str, Any]:
        address = self._store.address(f"tables/{table}")
        facets = {"version": facet("DatasetVersionDatasetFacet", datasetVersion=version)}
        return dataset_of(address) | {"facets": facets}


def run_event(
    kind: str,
    run: RunIdentity,
    parent: ParentRun | None,
    job_type: str,
    facets: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a run event without datasets.

    Args:
        kind: `START`, `COMPLETE` or `FAIL`.
        run: the run.
        parent: its parent, if it has one.
        job_type: what the job is to the project.
        facets: further facets of the run.
    """
    engine = facet("ProcessingEngineRunFacet", name="curation", version=__version__)
    run_facets = {"processing_engine": engine, **facets}
    if parent is not None:
        run_facets["parent"] = facet("ParentRunFacet", **parent.to_json())
    job_facet = facet(
        "JobTypeJobFacet", processingType="BATCH", integration="CURATION", jobType=job_type
    )
    return {
        "eventType": kind,
        "eventTime": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "producer": PRODUCER,
        "schemaURL": RUN_EVENT,
        "run": {"runId": str(run.run_id), "facets": run_facets},
        "job": {"namespace": run.namespace, "name": run.job, "facets": {"jobType": job_facet}},
    }


def error_facet(error: BaseException) -> dict[str, Any]:
    """Return why a run failed, as a facet."""
    kind, text = type(error).__name__, text_of(error)
    message = conceal(f"{kind}: {text}" if text else kind)
    return facet("ErrorMessageRunFacet", message=message, programmingLanguage="PYTHON")


def sources_of(step: Step) -> list[dict[str, Any]]:
    """Return the sources that a step reads, as datasets without a version."""
    if not isinstance(step.params, IngestStep):
        return []
    addresses: Iterable[str] = (source.address for source in step.params.sources)
    return [dataset_of(mask_address(address)) for address in dict.fromkeys(addresses)]


def dataset_of(address: str) -> dict[str, Any]:
    """Return the namespace and the name of a dataset at a path or URI, as OpenLineage names them.

    Examples:
        >>> dataset_of("s3://bucket/store/tables/pairs")
        {'namespace': 's3://bucket', 'name': 'store/tables/pairs'}
        >>> dataset_of("/data/store/tables/pairs")
        {'namespace': 'file', 'name': '/data/store/tables/pairs'}
    """
    if "://" not in address:
        return {"namespace": "file", "name": os.path.abspath(address)}  # noqa: PTH100
    parts = urlsplit(address)
    # Of a store, the query is no part of its name: it says how to reach it.
    query = f"?{parts.query}" if parts.query and parts.scheme.startswith("http") else ""
    name = parts.path.lstrip("/") or "/"
    return {"namespace": f"{parts.scheme}://{parts.netloc}", "name": f"{name}{query}"}


def _run_id(run: str, stage: str = "") -> UUID:
    """Return the id of a run or of one of its stages. The name of a run is unique."""
    return uuid5(NAMESPACE_URL, f"urn:curation:run:{run}:{stage}")
