"""What a stage is: one value with everything that the plan, the runner and the launchers use.

Each folder of `curation/stages/` declares its stage in `params.py`. That module imports nothing heavy,
because schedulers parse it: functions are named by their import path and loaded when the stage runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, Literal, TypeVar

from curation.engine.params_base import StrictModel
from curation.engine.table_name import Family

ScoreType = Literal["number", "text"]
"""Type of a score in `select`: thresholds are for numbers, lists of values for texts."""

Outcomes = Mapping[str, int]
"""Number of rows by outcome: `ok`, or the reason why a row was dropped or failed."""

P = TypeVar("P", bound=StrictModel)


@dataclass(frozen=True)
class FunctionPath:
    """A function by its import path, `package.module:function`; a call imports it first."""

    path: str

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function."""
        return self.load()(*arguments, **named)

    def load(self) -> Callable[..., Any]:
        """Import the function."""
        module, _, name = self.path.partition(":")
        function: Callable[..., Any] = getattr(import_module(module), name)
        return function


@dataclass(frozen=True)
class Read:
    """A table, or a family of tables, that a stage reads.

    Attributes:
        table: its name is the name of the argument. For a family the argument is a mapping by member.
        whole: a map stage gets the whole table. Otherwise it gets the fragment with the name of the one
            that it writes.
    """

    table: str | Family
    whole: bool = False

    @property
    def argument(self) -> str:
        """The name of the argument of the stage's function."""
        return self.table.name if isinstance(self.table, Family) else self.table


def no_members(params: Any) -> tuple[str, ...]:
    """Return no members: the default for a stage that uses no family of tables."""
    return ()


def no_versions(params: Any) -> dict[str, int | str]:
    """Return no versions: the default for a stage that uses no registry."""
    return {}


@dataclass(frozen=True)
class Stage(Generic[P]):
    """One stage of the flow: a plain function from tables to one table, or to a family of tables.

    Attributes:
        number: position in the flow; it numbers the job and the schema.
        name: a verb; the name of the folder and of the function.
        kind: a `map` stage writes one fragment after another, each with a memo. A `global` stage gets
            whole tables and a `Context`.
        params: class of the argument `params` of the function.
        writes: the table, or the family whose members it writes.
        reads: the tables that it reads; their names are the arguments of the function.
        version: raised whenever the stage would write other rows for the same input.
        gpu: tasks request a GPU from the cluster, and the function of a map stage gets `device`.
        work_folder: the function of a map stage gets `workdir`, a folder of the store for unfinished
            work, which is deleted once the unit is finished.
        waits: the function of a map stage gets `waiting`, which it calls once it mostly waits for slow
            hosts: the next unit of its task then starts beside it, in another thread.
        decodes: its units decode pictures of strangers, so they run in other processes than the run.
        members: returns the members of families that a step reads or writes.
        only: for a stage that writes a family: returns the parameters that compute some members alone.
        versions: returns the registry members that decide rows, each with its version.
        rows_per_file: returns the maximum number of rows of a file, for a map stage that limits it.
        units: function of `(**tables, params, context)` that returns the arguments of each unit by
            name, for a map stage whose units are not simply the aligned fragments.
        chains: function of `(**tables)` that returns the chain of each unit by the unit's name: units
            of one chain never run at the same time.
        joint_bytes: function of `(**tables, params)` that returns how many bytes of fragments one call
            may hold, for a map stage that would read all of a large table for each fragment. The
            stage's function then gets a mapping by fragment for each table that is not `whole`, and
            yields pairs of a fragment's name and a batch.
        progress: function of `(store, units)` that returns a function which describes the progress of
            the units in one line.
        retry: function of `(params, outcomes, age_s, requested)` that returns the outcomes whose rows
            are computed again although nothing changed: `outcomes` counts the rows that were committed
            last, or that a fragment of these has, `age_s` is for how many seconds they have been there,
            and `requested` is what the run was asked to try again.
        check: function of `(params, outcomes)` that returns a `Detail` for each bound that is
            exceeded, because too many rows failed.
    """

    number: int
    name: str
    kind: Literal["map", "global"]
    params: type[P]
    writes: str | Family
    reads: tuple[Read, ...] = ()
    version: int = 1
    gpu: bool = False
    work_folder: bool = False
    waits: bool = False
    decodes: bool = False
    members: Callable[[P], Sequence[str]] = no_members
    only: Callable[[P, Sequence[str]], P] | None = None
    versions: Callable[[P], Mapping[str, int | str]] = no_versions
    rows_per_file: Callable[[P], int] | None = None
    units: FunctionPath | None = None
    chains: FunctionPath | None = None
    joint_bytes: FunctionPath | None = None
    progress: FunctionPath | None = None
    retry: FunctionPath | None = None
    check: FunctionPath | None = None

    @property
    def contract(self) -> str:
        """The name of the contract of the tables that it writes."""
        return self.writes.name if isinstance(self.writes, Family) else self.writes

    @property
    def function(self) -> FunctionPath:
        """The stage's function."""
        return FunctionPath(f"curation.stages.{self.name}.stage:{self.name}")

    @property
    def job(self) -> str:
        """The stage's spark-submit entry point, within the project."""
        return f"jobs/{self.number:02d}_{self.name}.py"
