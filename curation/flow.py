"""The flow: every stage in order, and the plan of a recipe.

The command line, spark-submit jobs and Airflow all run the steps that `plan` returns. This module opens
no data and imports only the standard library, pydantic and yaml, because schedulers parse it often.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from curation.algorithms.knn.params import IndexParams, SearchParams
from curation.engine.params_base import StrictModel, derive_params, fingerprint_params
from curation.engine.stage import Stage
from curation.engine.table_name import Family, TableName
from curation.errors import Detail, RecipeError, unknown
from curation.media.web.params import OutboundParams, UrlParams
from curation.recipe import Recipe
from curation.recipe.expect import ExpectParams
from curation.stages.assemble import params as assemble
from curation.stages.assign import params as assign
from curation.stages.cluster import params as cluster
from curation.stages.dedup import params as dedup
from curation.stages.embed import params as embed
from curation.stages.fetch import params as fetch
from curation.stages.index import params as index
from curation.stages.ingest import params as ingest
from curation.stages.ingest.sources.source import signed_addresses
from curation.stages.match import params as match
from curation.stages.neighbours import params as neighbours
from curation.stages.quantise import params as quantise
from curation.stages.retrieve import params as retrieve
from curation.stages.score import params as score
from curation.stages.screen import params as screen
from curation.stages.select import params as select
from curation.stages.tally import params as tally
from curation.stages.verify import params as verify
from curation.store.digest import digest

P = TypeVar("P", bound=StrictModel)


@dataclass(frozen=True)
class FlowRow:
    """A stage, and the function that takes its parameters from a recipe."""

    stage: Stage[Any]
    params: Callable[[Recipe], StrictModel]


FLOW = (
    FlowRow(
        ingest.STAGE,
        lambda recipe: derive_params(
            ingest.IngestStep,
            recipe.ingest,
            sources=recipe.sources,
            grouped=recipe.fetch.pixels == "fetch",
            outbound=derive_params(OutboundParams, recipe.fetch),
        ),
    ),
    FlowRow(
        fetch.STAGE,
        lambda recipe: derive_params(
            fetch.FetchStep,
            recipe.fetch,
            redirects=derive_params(UrlParams, recipe.ingest),
            anonymous=recipe.fetch.contact is None,
            signed=signed_addresses(recipe.sources),
        ),
    ),
    FlowRow(screen.STAGE, lambda recipe: recipe.screen),
    FlowRow(embed.STAGE, lambda recipe: recipe.embed),
    FlowRow(
        score.STAGE,
        lambda recipe: derive_params(
            score.ScoreStep, recipe.score, encoders=recipe.prompted_encoders
        ),
    ),
    FlowRow(
        neighbours.STAGE,
        lambda recipe: neighbours.NeighboursStep(
            perceptual=recipe.dedup.perceptual,
            joins={
                name: derive_params(neighbours.JoinSpec, level)
                for name, level in recipe.dedup.vector_levels.items()
            },
        ),
    ),
    FlowRow(
        verify.STAGE,
        lambda recipe: (
            derive_params(verify.VerifyStep, recipe.dedup.verify)
            if recipe.dedup.verify
            else verify.VerifyStep(floor=None, k=0)
        ),
    ),
    FlowRow(dedup.STAGE, lambda recipe: recipe.dedup),
    FlowRow(tally.STAGE, lambda recipe: tally.TallyStep()),
    FlowRow(
        select.STAGE,
        lambda recipe: select.SelectStep(
            thresholds=recipe.thresholds,
            seed_copies=recipe.dedup.seed_copies,
            encoder=recipe.semantic_encoder,
            tables=recipe.score_tables,
        ),
    ),
    FlowRow(
        cluster.STAGE,
        lambda recipe: derive_params(
            cluster.ClusterStep,
            recipe.cluster,
            encoder=recipe.semantic_encoder,
            seed=recipe.seed,
        ),
    ),
    FlowRow(
        assign.STAGE,
        lambda recipe: derive_params(
            assign.AssignStep, recipe.cluster, encoder=recipe.semantic_encoder
        ),
    ),
    FlowRow(
        quantise.STAGE,
        lambda recipe: quantise.QuantiseStep(
            encoder=recipe.match_encoder,
            index=derive_params(IndexParams, recipe.match),
            seed_sets=sorted(name for name, k in recipe.neighbours_needed.items() if k),
            seed=recipe.seed,
        ),
    ),
    FlowRow(index.STAGE, lambda recipe: index.IndexStep(encoder=recipe.match_encoder)),
    FlowRow(
        match.STAGE,
        lambda recipe: derive_params(
            match.MatchStep,
            recipe.match,
            encoder=recipe.match_encoder,
            search=derive_params(SearchParams, recipe.match),
            k=recipe.neighbours_needed,
            seed=recipe.seed,
        ),
    ),
    FlowRow(
        retrieve.STAGE,
        lambda recipe: retrieve.RetrieveStep(
            arms=recipe.arms, balance=recipe.balance, seed=recipe.seed
        ),
    ),
    FlowRow(
        assemble.STAGE,
        lambda recipe: derive_params(
            assemble.AssembleStep,
            recipe.assemble,
            pixels=recipe.kept_pixels,
            seed=recipe.seed,
            run=run_fingerprint(recipe),
        ),
    ),
)
"""Every stage in order, each after the stages whose tables it reads."""
STAGES: dict[str, Stage[Any]] = {row.stage.name: row.stage for row in FLOW}
"""Every stage by name, in the order of the flow."""


@dataclass(frozen=True)
class Step:
    """A stage with its parameters in one recipe.

    Attributes:
        stage: the stage.
        params: its parameters.
        tables: the tables that it writes: one, or one for each member of a family.
        reads: the tables that it reads, by argument of the stage's function.
        writers: the fingerprints of the steps that write those, by table.
        upstream: the names of these steps.
        fingerprint: changes when this step, or one that it depends on, would write other rows.
        plugins: the plug-ins of the recipe.
        recipe: name of the recipe.
        run: fingerprint of the recipe's run.
        expect: what must hold of the dataset that the step writes.
    """

    stage: Stage[Any]
    params: StrictModel
    tables: tuple[TableName, ...]
    reads: Mapping[str, tuple[TableName, ...]]
    writers: Mapping[str, str]
    upstream: tuple[str, ...]
    fingerprint: str
    plugins: tuple[str, ...] = ()
    recipe: str = ""
    run: str = ""
    expect: ExpectParams | None = None

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.stage.name

    @property
    def inputs(self) -> tuple[TableName, ...]:
        """Every table that the step reads."""
        return tuple(table for tables in self.reads.values() for table in tables)

    def params_as(self, kind: type[P]) -> P:
        """Return the parameters as an instance of a class, for type checkers.

        Raises:
            TypeError: they are of another class.
        """
        if not isinstance(self.params, kind):
            raise TypeError(f"{self.name} has {type(self.params).__name__}, not {kind.__name__}")
        return self.params


def fingerprint_parts(stage: Stage[Any], params: StrictModel) -> list[Any]:
    """Return the properties of a stage and its parameters that decide rows, for a fingerprint."""
    return [stage.name, stage.version, fingerprint_params(params), dict(stage.versions(params))]


def run_fingerprint(recipe: Recipe) -> str:
    """Return the fingerprint that names a run: a digest of everything that decides its dataset."""
    rows = [row for row in FLOW if row.stage is not assemble.STAGE]
    parts = [fingerprint_parts(row.stage, row.params(recipe)) for row in rows]
    last = [assemble.STAGE.name, assemble.STAGE.version, fingerprint_params(recipe.assemble)]
    return digest([*parts, last], 16)


def plan(recipe: Recipe, until: str | None = None) -> tuple[Step, ...]:
    """Return the steps of a recipe, in order.

    Args:
        recipe: the recipe.
        until: the last stage; by default the last of the flow.

    Raises:
        RecipeError: `until` is no stage.
    """
    if until is not None and until not in STAGES:
        raise RecipeError(unknown("stage", until, STAGES))
    steps: list[Step] = []
    origin: dict[str, Any] = {
        "plugins": tuple(recipe.plugins),
        "recipe": recipe.name,
        "run": run_fingerprint(recipe),
        "expect": recipe.expect,
    }
    for row in FLOW:
        stage = _stage_of(row.stage, recipe)
        steps.append(replace(_step(stage, row.params(recipe), steps), **origin))
        if row.stage.name == until:
            break
    return tuple(steps)


def _stage_of(stage: Stage[Any], recipe: Recipe) -> Stage[Any]:
    """Return a stage as a recipe needs it: without pixels none decodes pictures."""
    if stage.decodes and recipe.fetch.pixels == "none":
        return replace(stage, decodes=False)
    return stage


def select_steps(
    steps: Sequence[Step],
    only: str | None = None,
    first: str | None = None,
    until: str | None = None,
) -> list[Step]:
    """Return some steps of a plan.

    Args:
        steps: the plan.
        only: the one stage to run.
        first: the first stage to run.
        until: the last stage to run.

    Raises:
        RecipeError: a name is no stage of the plan, `first` comes after `until`, or one of them stands
            beside `only`.
    """
    names = [s.name for s in steps]
    for option, name in (("--only", only), ("--from", first), ("--until", until)):
        if name is not None and name not in names:
            raise RecipeError(unknown("stage", name, names, where=option))
    if only is not None:
        if first or until:
            option, name = ("--from", first) if first else ("--until", until)
            message = f"it has no effect beside --only {only}"
            raise RecipeError(Detail(message, option, name, fix="Leave one of the two out"))
        return [steps[names.index(only)]]
    start = names.index(first) if first else 0
    end = names.index(until) + 1 if until else len(steps)
    if start >= end:
        fix = "Exchange the two, or leave one out"
        raise RecipeError(
            Detail(f"--from {first} comes after --until {until}", "--from", first, names[:end], fix)
        )
    return list(steps[start:end])


def _step(stage: Stage[Any], params: StrictModel, earlier: list[Step]) -> Step:
    writer = {table: step for step in earlier for table in step.tables}
    reads = {read.argument: _tables(read.table, stage, params) for read in stage.reads}
    inputs = [table for tables in reads.values() for table in tables]
    return Step(
        stage,
        params,
        _tables(stage.writes, stage, params),
        reads,
        {table: writer[table].fingerprint for table in inputs},
        tuple(dict.fromkeys(writer[table].name for table in inputs)),
        digest([fingerprint_parts(stage, params), [[t, writer[t].fingerprint] for t in inputs]]),
    )


def _tables(table: str | Family, stage: Stage[Any], params: StrictModel) -> tuple[TableName, ...]:
    if isinstance(table, Family):
        return tuple(table.table(member) for member in stage.members(params))
    return (TableName(table),)
