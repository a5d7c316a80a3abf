"""What each stage gets of a recipe, where that is not just a block of it."""

from __future__ import annotations

from typing import Literal

from pydantic import SerializeAsAny

from curation.assemble.params import AssembleParams
from curation.cluster.params import ClusterParams
from curation.dedup.params import Join, Perceptual
from curation.embed.params import EncoderSpec
from curation.fetch.params import FetchParams
from curation.ingest.params import IngestParams, Source, UrlParams
from curation.retrieve.arm import Arm
from curation.retrieve.params import BalanceParams
from curation.score.params import ScoreParams
from curation.select.params import Threshold
from curation.strict import Strict, execution_only


class IngestStep(IngestParams):
    """What the stage ingest gets."""

    sources: list[Source]


class FetchStep(FetchParams):
    """What the stage fetch gets; `redirects` says where none may lead."""

    redirects: UrlParams = execution_only(UrlParams())


class ScoreStep(ScoreParams):
    """What the stage score gets; `encoders` are those whose text towers heads need."""

    encoders: dict[str, EncoderSpec]


class JoinSpec(Join):
    """How the vectors of one encoder are joined."""

    encoder: str


class NeighboursStep(Strict):
    """What the stage neighbours gets: the levels that look for pairs."""

    perceptual: Perceptual | None
    joins: dict[str, JoinSpec]


class VerifyStep(Strict):
    """What the stage verify gets; without a floor nothing is looked at."""

    floor: float | None
    k: int


class TallyStep(Strict):
    """What the stage tally gets: nothing, since it knows no thresholds."""


class SelectStep(Strict):
    """What the stage select gets."""

    thresholds: dict[str, Threshold]
    seed_copies: Literal["keep", "drop"]


class ClusterStep(ClusterParams):
    """What the stage cluster gets."""

    seed: int


class QuantiseStep(Strict):
    """What the stage quantise gets; without neighbours (k = 0) there is nothing to search."""

    encoder: str
    index: Literal["auto", "exact", "ivf_flat", "ivf_pq"]
    nlist: int | None
    nprobe: int
    subquantizers: int
    k: int
    seed: int


class IndexStep(Strict):
    """What the stage index gets."""

    encoder: str


class MatchStep(Strict):
    """What the stage match gets; `k` is the most neighbours that any arm needs."""

    encoder: str
    nprobe: int
    refine: int
    recall_queries: int
    k: int
    seed: int


class AssignStep(Strict):
    """What the stage assign gets."""

    encoder: str
    metric: Literal["spherical", "euclidean"] = "spherical"
    backend: Literal["faiss", "torch"] = execution_only("torch")


class RetrieveStep(Strict):
    """What the stage retrieve gets."""

    arms: list[SerializeAsAny[Arm]]
    balance: BalanceParams = BalanceParams()
    seed: int


class AssembleStep(AssembleParams):
    """What the stage assemble gets."""

    run: str
