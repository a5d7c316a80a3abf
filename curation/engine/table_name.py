"""Names of tables: of single tables, and of members of a family of tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


class TableName(str):
    """The name of a table in a store: `images`, or `embeddings.semantic` for a member of a family."""

    __slots__ = ()

    @property
    def contract(self) -> str:
        """The name of the contract: for a member, the name of the family."""
        return self.partition(".")[0]

    @property
    def member(self) -> str | None:
        """The name of the member within its family; None for a single table."""
        return self.partition(".")[2] or None


@dataclass(frozen=True)
class Family:
    """Tables with the same contract, one for each member: `embeddings` has one for each encoder."""

    name: str

    def table(self, member: str) -> TableName:
        """Return the name of a member's table."""
        return TableName(f"{self.name}.{member}")

    def holds(self, table: str) -> bool:
        """Whether a table is a member of the family."""
        name = TableName(table)
        return name.contract == self.name and name.member is not None

    def members(self, tables: Mapping[str, T]) -> dict[str, T]:
        """Return the values that belong to tables of the family, by member."""
        return {str(TableName(t).member): value for t, value in tables.items() if self.holds(t)}
