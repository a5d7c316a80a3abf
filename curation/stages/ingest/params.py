"""The block `ingest` of a recipe, and its sources."""

from __future__ import annotations

from curation.engine.params_base import execution_only
from curation.engine.stage import FunctionPath, Stage
from curation.media.web.params import OutboundParams, UrlParams
from curation.stages.ingest.sources.source import Source


class IngestParams(UrlParams):
    """How lists become rows, and which URLs are dropped."""

    rows_per_fragment: int = execution_only(10_000, ge=1, le=1_000_000)
    """Number of rows of a fragment, the unit of work of all stages that process rows one by one."""


class IngestStep(IngestParams):
    """What the stage ingest gets."""

    sources: list[Source]
    """The sources of the recipe, in its order."""
    grouped: bool = True
    """Whether rows of lists of URLs are grouped by host, to be fetched; otherwise they keep the order
    of the list."""
    outbound: OutboundParams = execution_only(OutboundParams())
    """How sources on the web are requested: as `fetch` says."""


STAGE = Stage(
    number=0,
    name="ingest",
    kind="map",
    params=IngestStep,
    writes="pairs",
    version=7,
    versions=lambda params: {
        f"format {source.format}": " ".join(map(str, source.version)) for source in params.sources
    },
    units=FunctionPath("curation.stages.ingest.stage:units"),
)
