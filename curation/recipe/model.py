"""The recipe: what to compute, typed and strict."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SerializeAsAny, ValidationError, field_validator

from curation.engine.params_base import Name, StrictModel
from curation.engine.stage import ScoreType
from curation.media.encoders.params import EncoderSpec
from curation.recipe.explain import explain
from curation.stages.assemble.params import AssembleParams
from curation.stages.cluster.params import ClusterParams
from curation.stages.dedup.params import DedupParams
from curation.stages.embed.params import EmbedParams
from curation.stages.fetch.params import FetchParams
from curation.stages.ingest.params import IngestParams
from curation.stages.ingest.sources.source import Role, Source
from curation.stages.match.params import MatchParams
from curation.stages.retrieve.params import BalanceParams
from curation.stages.retrieve.strategies import STRATEGIES
from curation.stages.retrieve.strategies.arm import Arm
from curation.stages.score.heads import HEADS
from curation.stages.score.params import ScoreParams
from curation.stages.screen.params import ScreenParams
from curation.stages.select.params import Threshold
from curation.stages.tally.params import SCORES as TALLIED


class Recipe(StrictModel):
    """Everything that decides what a run computes."""

    name: Name
    seed: int = 0
    plugins: list[str] = []
    sources: Annotated[list[Source], Field(min_length=1)]
    ingest: IngestParams = IngestParams()
    fetch: FetchParams = FetchParams()
    screen: ScreenParams = ScreenParams()
    embed: EmbedParams = EmbedParams()
    score: ScoreParams = ScoreParams()
    dedup: DedupParams = DedupParams()
    select: dict[str, Threshold] = {}
    cluster: ClusterParams = ClusterParams()
    match: MatchParams = MatchParams()
    retrieve: list[SerializeAsAny[Arm]] = []
    balance: BalanceParams = BalanceParams()
    assemble: AssembleParams = AssembleParams()

    @field_validator("retrieve", mode="before")
    @classmethod
    def _typed_arms(cls, arms: Any) -> Any:
        return [_typed_arm(a) for a in arms] if isinstance(arms, list) else arms

    def with_role(self, role: Role) -> list[Source]:
        """Return the sources of one role, in recipe order."""
        return [s for s in self.sources if s.role == role]

    @property
    def semantic_encoder(self) -> str:
        """The encoder of clusters, and of matches unless they name another."""
        return self.cluster.encoder or next(iter(self.embed.encoders))

    @property
    def match_encoder(self) -> str:
        """The encoder of matches."""
        return self.match.encoder or self.semantic_encoder

    @property
    def score_tables(self) -> dict[str, str]:
        """The table of each score that a threshold bounds."""
        tables = {name: table for table, scores in self.scores.items() for name in scores}
        return {name: tables[name] for name in self.select}

    @property
    def scores(self) -> dict[str, dict[str, ScoreType]]:
        """The type of each score by the table that holds it: what `select` may bound."""
        return {
            "scores": self.screen.scores(),
            "head_scores": self.score.scores(),
            "tallies": TALLIED,
        }

    @property
    def largest_k(self) -> int:
        """The most neighbours that any arm needs of a seed image."""
        return max((arm.neighbours_needed() for arm in self.retrieve), default=0)

    @property
    def prompted_encoders(self) -> dict[str, EncoderSpec]:
        """The encoders whose text towers heads need."""
        heads = self.score.heads.values()
        return {h.encoder: self.embed.encoders[h.encoder] for h in heads if HEADS[h.kind].prompts}


def _typed_arm(arm: Any) -> Any:
    if not isinstance(arm, dict):
        return arm
    try:
        model: type[Arm] = STRATEGIES.load(STRATEGIES.check(arm.get("strategy"))).StrategyArm
        return model.model_validate(arm)
    except ValidationError as error:
        raise ValueError(f"arm {arm.get('name')!r}: {explain(error, model)}") from error
    except ValueError as error:
        raise ValueError(f"arm {arm.get('name')!r}: {error}") from error
