"""Registries: the members that a recipe chooses by name, each in a module of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Generic, TypeVar

from curation.errors import InvalidValueError, unknown


@dataclass(frozen=True)
class Entry:
    """What a registry knows about a member without importing it.

    Attributes:
        module: the module of the member; by default the module of that name in the registry's package.
        version: raised whenever the member would give other values for the same input. It is part of
            the memos of the stages that use the member.
    """

    module: str = ""
    version: int | str = 1


E = TypeVar("E", bound=Entry)


def display_text(default: str = "") -> Any:
    """Declare a field of an entry that people read: it decides no row, so no pin depends on it."""
    return field(default=default, metadata={"display": True})


class Registry(Mapping[str, E], Generic[E]):
    """The members of one kind by name, in the order in which they were declared.

    Args:
        noun: what messages call a member.
        package: the package with the modules of the members.
        entries: the members by name.
        requires: names that the module of a member must define.
        same_results: all members give the same results, so no memo depends on which one was used.
    """

    def __init__(
        self,
        noun: str,
        package: str,
        entries: Mapping[str, E],
        *,
        requires: tuple[str, ...] = (),
        same_results: bool = False,
    ) -> None:
        self.noun, self.package = noun, package
        self.requires, self.same_results = requires, same_results
        self._entries = dict(entries)

    @property
    def entry_type(self) -> type[Entry]:
        """The type of its entries."""
        return type(next(iter(self._entries.values())))

    def __getitem__(self, name: str) -> E:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def check(self, name: Any) -> str:
        """Return the name of a member.

        Raises:
            InvalidValueError: there is no such member; the message lists the valid names.
        """
        if not isinstance(name, str) or name not in self._entries:
            raise InvalidValueError(unknown(self.noun, name, self))
        return str(name)

    def module_of(self, name: str) -> str:
        """Return the name of a member's module."""
        return self._entries[name].module or f"{self.package}.{name}"

    def load(self, name: str) -> Any:
        """Import a member: its module, or the object if the entry's module is `module:object`."""
        path, _, attribute = self.module_of(name).partition(":")
        module = import_module(path)
        return getattr(module, attribute) if attribute else module

    def problem_of(self, name: str) -> str | None:
        """Return what is wrong with a member, or None."""
        try:
            member = self.load(name)
        except Exception as error:
            # A member of a plug-in may raise anything while it is imported.
            return f"cannot be loaded ({type(error).__name__}: {error})"
        missing = [wanted for wanted in self.requires if not hasattr(member, wanted)]
        if missing:
            return f"lacks {', '.join(missing)}; {self.module_of(name)} must define it"
        return None

    def add(self, name: str, entry: E) -> None:
        """Add a member of a plug-in."""
        self._entries[name] = entry

    def remove(self, name: str) -> None:
        """Remove a member of a plug-in."""
        del self._entries[name]

    def versions(self, names: Iterable[str]) -> dict[str, int | str]:
        """Return the version of each named member, for memos."""
        return {f"{self.noun} {name}": self._entries[name].version for name in names}
