"""What a stage is: one value that says all that the plan, the runner and the launchers may use.

Each folder of `curation/stages/` declares its stage in `params.py`. That module imports nothing heavy:
functions are named by their import path and loaded when the stage runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, Literal, TypeVar

from curation.engine.params_base import StrictModel
from curation.engine.table_name import Family

ScoreType = Literal["number", "text"]
"""What a score is that `select` may bound: bounds are for numbers, values for texts."""

P = TypeVar("P", bound=StrictModel)


@dataclass(frozen=True)
class FunctionPath:
    """A function by its import path, `package.module:function`."""

    path: str

    def load(self) -> Callable[..., Any]:
        """Import the function."""
        module, _, name = self.path.partition(":")
        function: Callable[..., Any] = getattr(import_module(module), name)
        return function


@dataclass(frozen=True)
class Read:
    """A table that a stage reads, under the name of the table as argument.

    For a family the argument is a mapping by member. A map stage gets the fragment that is aligned with
    the one it makes, or with `whole` the whole table.
    """

    table: str | Family
    whole: bool = False

    @property
    def argument(self) -> str:
        """The argument of the stage's function."""
        return self.table.name if isinstance(self.table, Family) else self.table


def no_members(params: Any) -> tuple[str, ...]:
    """Return the members of a family that a stage uses that uses none."""
    return ()


def no_versions(params: Any) -> dict[str, int | str]:
    """Return the registry members that decide the rows of a stage that uses none."""
    return {}


@dataclass(frozen=True)
class Stage(Generic[P]):
    """One stage of the flow: a plain function from tables to one table, or to a family of tables.

    Attributes:
        number: place in the flow; it numbers the job and the schema.
        name: a verb, the name of the folder and of the function.
        kind: a `map` stage makes fragment after fragment, each with a memo. A `global` stage gets whole
            tables and a `Context`.
        params: the model of what the function gets as `params`.
        writes: the table, or the family of which it writes the members.
        reads: what it reads; the names are the arguments of the function.
        version: raised whenever the stage would give other rows for the same input.
        gpu: a map function gets `device`; tasks ask the cluster for a GPU.
        work_folder: a map function gets `workdir`, a folder of the store for unfinished work.
        needs_seeds: the stage is left out of recipes without seeds and arms.
        members: which members of a family a step reads or writes, by its parameters.
        only: for a stage that writes a family, the parameters that give some members alone.
        versions: which members of registries decide rows, and the version of each.
        rows_per_file: rows of a file of a fragment, for a map stage that limits them.
        units: `(**tables, params, context)` to the arguments of each unit of a map stage, by name,
            where they are not simply the aligned fragments.
        chains: `(**tables)` to the chain of units that must not run at the same time, by name.
        progress: `(store, units)` to a function that describes the progress in one line.
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
    needs_seeds: bool = False
    members: Callable[[P], Sequence[str]] = no_members
    only: Callable[[P, Sequence[str]], P] | None = None
    versions: Callable[[P], Mapping[str, int | str]] = no_versions
    rows_per_file: Callable[[P], int] | None = None
    units: FunctionPath | None = None
    chains: FunctionPath | None = None
    progress: FunctionPath | None = None

    @property
    def contract(self) -> str:
        """The contract of what it writes, the same for all members of a family."""
        return self.writes.name if isinstance(self.writes, Family) else self.writes

    @property
    def function(self) -> FunctionPath:
        """The stage's function."""
        return FunctionPath(f"curation.stages.{self.name}.stage:{self.name}")

    @property
    def job(self) -> str:
        """The stage's spark-submit entry point, within the project."""
        return f"jobs/{self.number:02d}_{self.name}.py"
