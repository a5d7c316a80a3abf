"""The flow as a table, and the plan of a recipe.

The one wiring: the command line, spark-submit jobs and Airflow all walk what `plan` returns. Imports
only the standard library, pydantic and yaml, and opens no data: schedulers parse it again and again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from curation.dedup.params import DedupParams, Near, Semantic
from curation.digest import digest
from curation.embed.params import EncoderSpec
from curation.errors import RecipeError
from curation.ingest.params import UrlParams
from curation.recipe import Recipe
from curation.score.heads import WITH_PROMPTS
from curation.steps import (
    AssembleStep,
    AssignStep,
    ClusterStep,
    FetchStep,
    IndexStep,
    IngestStep,
    JoinSpec,
    MatchStep,
    NeighboursStep,
    QuantiseStep,
    RetrieveStep,
    ScoreStep,
    SelectStep,
    TallyStep,
    VerifyStep,
)
from curation.strict import Strict, fingerprinted

S = TypeVar("S", bound=Strict)


@dataclass(frozen=True)
class Stage:
    """One stage: a plain function from tables to one table (or one table an encoder).

    A `map` stage works fragment by fragment and is memoised so; a `global` stage sees whole tables.
    `version` is raised whenever the stage would give other rows than before. `gpus` is 1 where some of
    its tasks compute on a GPU, if there is one.
    """

    number: int
    name: str
    kind: Literal["map", "global"]
    writes: str
    reads: tuple[str, ...] = ()
    version: int = 1
    gpus: int = 0

    @property
    def module(self) -> str:
        """Module of the stage's function."""
        return f"curation.{self.name}.stage"

    @property
    def job(self) -> str:
        """The stage's spark-submit entry point, within the project."""
        return f"jobs/{self.number:02d}_{self.name}.py"


FLOW = (
    Stage(0, "ingest", "map", writes="pairs", version=2),
    Stage(10, "fetch", "map", writes="images", reads=("pairs",), version=2),
    Stage(20, "screen", "map", writes="scores", reads=("images",), version=2),
    Stage(30, "embed", "map", writes="embeddings", reads=("images",), version=6, gpus=1),
    Stage(35, "score", "map", writes="head_scores", reads=("images", "embeddings")),
    Stage(
        40,
        "neighbours",
        "global",
        writes="neighbours",
        reads=("images", "scores", "embeddings"),
        version=2,
        gpus=1,
    ),
    Stage(42, "verify", "global", writes="verified", reads=("images", "neighbours"), version=2),
    Stage(
        45,
        "dedup",
        "global",
        writes="copies",
        reads=("images", "scores", "neighbours", "verified"),
        version=2,
    ),
    Stage(47, "tally", "global", writes="tallies", reads=("images", "copies")),
    Stage(
        50,
        "select",
        "map",
        writes="eligible",
        reads=("images", "scores", "head_scores", "tallies", "embeddings"),
        version=2,
    ),
    Stage(
        60,
        "cluster",
        "global",
        writes="centroids",
        reads=("eligible", "embeddings"),
        version=3,
        gpus=1,
    ),
    Stage(65, "assign", "map", writes="assignments", reads=("embeddings", "centroids"), gpus=1),
    Stage(67, "quantise", "global", writes="codebooks", reads=("eligible", "embeddings")),
    Stage(68, "index", "map", writes="lists", reads=("embeddings", "codebooks"), gpus=1),
    Stage(
        70,
        "match",
        "global",
        writes="matches",
        reads=("eligible", "embeddings", "codebooks", "lists"),
        version=3,
        gpus=1,
    ),
    Stage(
        80,
        "retrieve",
        "global",
        writes="claims",
        reads=("images", "eligible", "centroids", "assignments", "matches"),
        version=2,
    ),
    Stage(
        90,
        "assemble",
        "map",
        writes="dataset",
        reads=("images", "copies", "assignments", "claims"),
        version=2,
    ),
)
STAGES = {stage.name: stage for stage in FLOW}
NEEDS_SEEDS = ("quantise", "index", "match", "retrieve", "assemble")
WHOLE_TABLES = ("centroids", "codebooks")
"""Tables that a map stage reads whole, not fragment by fragment."""


@dataclass(frozen=True)
class Step:
    """A stage with its parameters in one recipe.

    `tables` are what it writes: one, or for embed one an encoder. `reads` names tables by the
    argument of the stage's function. `fingerprint` changes when anything upstream would.
    """

    stage: Stage
    params: Strict
    tables: tuple[str, ...]
    reads: Mapping[str, tuple[str, ...]]
    upstream: tuple[str, ...]
    fingerprint: str

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.stage.name


def semantic_encoder(recipe: Recipe) -> str:
    """Return the encoder of clusters, and of matches unless they name their own."""
    return recipe.cluster.encoder or next(iter(recipe.embed.encoders))


def match_encoder(recipe: Recipe) -> str:
    """Return the encoder of matches."""
    return recipe.match.encoder or semantic_encoder(recipe)


def near_levels(recipe: Recipe) -> dict[str, Near | Semantic]:
    """Return the levels of dedup that compare vectors, by their name."""
    levels = {"near": recipe.dedup.near, "semantic": recipe.dedup.semantic}
    return {name: level for name, level in levels.items() if level is not None}


def largest_k(recipe: Recipe) -> int:
    """Return the most neighbours that any arm needs of a seed image."""
    return max((arm.neighbours_needed() for arm in recipe.retrieve), default=0)


def _prompted(recipe: Recipe) -> dict[str, EncoderSpec]:
    """Return the encoders whose text towers heads need."""
    heads = recipe.score.heads.values()
    return {h.encoder: recipe.embed.encoders[h.encoder] for h in heads if h.kind in WITH_PROMPTS}


def _params(recipe: Recipe) -> dict[str, Strict]:
    """Return what each stage gets from the recipe."""
    dedup, semantic = recipe.dedup, semantic_encoder(recipe)
    search = {"encoder": match_encoder(recipe), "k": largest_k(recipe), "seed": recipe.seed}

    def step(kind: type[Strict], block: Strict, **more: object) -> Strict:
        return kind.model_construct(**(dict(block) | more))

    params: dict[str, Strict] = {
        "ingest": step(IngestStep, recipe.ingest, sources=recipe.sources),
        "fetch": step(FetchStep, recipe.fetch, redirects=_part(UrlParams, recipe.ingest)),
        "screen": recipe.screen,
        "embed": recipe.embed,
        "score": step(ScoreStep, recipe.score, encoders=_prompted(recipe)),
        "neighbours": NeighboursStep(
            perceptual=dedup.perceptual,
            joins={name: _part(JoinSpec, level) for name, level in near_levels(recipe).items()},
        ),
        "verify": _verify_step(dedup),
        "dedup": dedup,
        "tally": TallyStep(),
        "select": SelectStep(thresholds=recipe.select, seed_copies=dedup.seed_copies),
        "cluster": step(ClusterStep, recipe.cluster, encoder=semantic, seed=recipe.seed),
        "assign": AssignStep(
            encoder=semantic, metric=recipe.cluster.metric, backend=recipe.cluster.backend
        ),
        "quantise": _part(QuantiseStep, recipe.match, **search),
        "index": IndexStep(encoder=match_encoder(recipe)),
        "match": _part(MatchStep, recipe.match, **search),
        "retrieve": RetrieveStep.model_construct(
            arms=recipe.retrieve, balance=recipe.balance, seed=recipe.seed
        ),
    }
    decides = params | {"assemble": recipe.assemble}
    run = digest([[s.name, s.version] for s in FLOW] + [fingerprinted(decides)], 16)
    return params | {"assemble": step(AssembleStep, recipe.assemble, run=run)}


def _verify_step(dedup: DedupParams) -> VerifyStep:
    verify = dedup.verify
    return VerifyStep(floor=verify.floor, k=verify.k) if verify else VerifyStep(floor=None, k=0)


def _part(kind: type[S], block: Strict, **more: object) -> S:
    """Return the parameters of a stage that takes only some fields of a block."""
    given = dict(block) | more
    return kind.model_construct(**{name: given[name] for name in kind.model_fields})


def _tables_read(table: str, stage: str, recipe: Recipe) -> tuple[str, ...]:
    """Return the tables behind one argument of a stage: members for `embeddings`."""
    if table != "embeddings":
        return (table,)
    encoders = {
        "score": sorted({name for h in recipe.score.heads.values() for name in h.reads()}),
        "neighbours": sorted({level.encoder for level in near_levels(recipe).values()}),
        **{name: [match_encoder(recipe)] for name in ("quantise", "index", "match")},
    }.get(stage, [semantic_encoder(recipe)])
    return tuple(f"embeddings.{e}" for e in encoders)


def plan(recipe: Recipe, until: str | None = None) -> tuple[Step, ...]:
    """Return the steps of a recipe, in order. Without seeds it ends at `assign`.

    Raises:
        RecipeError: `until` is no stage, or needs seeds that the recipe does not have.
    """
    names = [s.name for s in FLOW]
    if until is not None and until not in names:
        raise RecipeError(f"No stage {until!r}. Valid: {', '.join(names)}.")
    if not recipe.retrieve:
        if until in NEEDS_SEEDS:
            raise RecipeError(
                f"Stage {until!r} needs `retrieve` with at least one arm, and a source with "
                "role: seed; without them a recipe runs until assign."
            )
        until = until or "assign"
    params = _params(recipe)
    writer: dict[str, Step] = {}
    steps: list[Step] = []
    for stage in FLOW:
        members = [f"embeddings.{e}" for e in recipe.embed.encoders]
        tables = tuple(members) if stage.writes == "embeddings" else (stage.writes,)
        reads = {t: _tables_read(t, stage.name, recipe) for t in stage.reads}
        sources = [t for found in reads.values() for t in found]
        upstream = tuple(dict.fromkeys(writer[t].name for t in sources))
        fingerprint = digest(
            [stage.name, stage.version, fingerprinted(params[stage.name])]
            + [[t, writer[t].fingerprint] for t in sources]
        )
        step = Step(stage, params[stage.name], tables, reads, upstream, fingerprint)
        writer |= dict.fromkeys(tables, step)
        steps.append(step)
        if stage.name == until:
            break
    return tuple(steps)


def run_fingerprint(recipe: Recipe) -> str:
    """Return the fingerprint that names a run: everything that decides its dataset."""
    return str(_params(recipe)["assemble"].run)  # type: ignore[attr-defined]
