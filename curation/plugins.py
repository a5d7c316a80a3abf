"""Plug-ins: modules that a recipe names, which bring members of registries without a fork.

A plug-in is a Python file, an importable module, or an entry point of the group `curation.plugins` of
an installed package. It declares what it brings in dictionaries that are called as the registries are:

    FILTERS = {"greenness": FilterEntry(module="my_filters:Greenness")}

See docs/extending.md. A plug-in's code runs with the rights of whoever runs the recipe.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from curation.engine.registry import Entry, Registry
from curation.errors import Detail, RecipeError, start_of_paths
from curation.media.encoders import ENCODERS
from curation.plugin_sources import source_files
from curation.stages.retrieve.strategies import STRATEGIES
from curation.stages.retrieve.strategies.arm import Arm
from curation.stages.score.heads import HEADS
from curation.stages.screen.filters import FILTERS
from curation.stages.screen.filters.base import Filter

GROUP = "curation.plugins"
REGISTRIES: dict[str, Registry[Any]] = {
    "FILTERS": FILTERS,
    "HEADS": HEADS,
    "ENCODERS": ENCODERS,
    "STRATEGIES": STRATEGIES,
}
"""The registries that a plug-in may add to, by the name that its dictionary has."""


@dataclass(frozen=True)
class Plugin:
    """A loaded plug-in.

    Attributes:
        name: as the recipe has it.
        module: the module that was imported.
        path: its file, where the recipe names one: workers get a copy.
        digest: SHA-256 of its source, which stands in memos.
    """

    name: str
    module: str
    path: str | None
    digest: str


_LOADED: dict[str, Plugin] = {}


def load_plugins(names: Iterable[str]) -> list[Plugin]:
    """Import plug-ins and add what they bring to the registries. Loading one again changes nothing.

    Raises:
        RecipeError: there is no such plug-in, it cannot be imported, a name is taken already, or a
            member does not have what its registry needs.
    """
    return [_load(name) for name in names]


def installed_plugins() -> list[str]:
    """Return the names of the plug-ins that installed packages offer."""
    return sorted(point.name for point in entry_points(group=GROUP))


def files_of(names: Iterable[str]) -> list[str]:
    """Return the files of plug-ins that workers need a copy of."""
    return [plugin.path for plugin in load_plugins(names) if plugin.path is not None]


def activation(names: Iterable[str]) -> partial[list[Plugin]] | None:
    """Return what makes the plug-ins of a recipe known on a worker; None where there are none."""
    modules = [plugin.module for plugin in load_plugins(names)]
    return partial(load_plugins, modules) if modules else None


def _load(name: str) -> Plugin:
    module, path = _module_of(name)
    digest = _digest(module)
    known = _LOADED.get(module.__name__)
    if known is not None and known.digest == digest:
        return known
    if known is not None:
        raise RecipeError(
            Detail(
                f"{name!r}, or a file that it imports, has changed since this process loaded it",
                "plugins",
                name,
                fix="Start a new process",
            )
        )
    entries = {attribute: getattr(module, attribute, {}) for attribute in REGISTRIES}
    for attribute, members in entries.items():
        if not isinstance(members, Mapping):
            kind = type(members).__name__
            message = (
                f"{attribute} of {name!r} is a {kind}; it must be a dictionary of entries by name"
            )
            raise RecipeError(Detail(message, "plugins", kind))
    if not any(entries.values()):
        raise RecipeError(
            Detail(
                f"{name!r} brings nothing",
                "plugins",
                name,
                fix=f"Declare at least one of {', '.join(REGISTRIES)}, a dictionary of entries by name "
                "(extending.md in `curation where docs`)",
            )
        )
    plugin = Plugin(name, module.__name__, path, digest)
    _add_all(plugin, entries)
    _LOADED[module.__name__] = plugin
    return plugin


def _add_all(plugin: Plugin, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Add all members that a plug-in brings, or none of them."""
    added: list[tuple[Registry[Any], str]] = []
    try:
        for attribute, members in entries.items():
            for member, entry in members.items():
                registry = REGISTRIES[attribute]
                _add(plugin, registry, member, entry)
                added.append((registry, member))
                problem = registry.problem_of(member) or _misfit(attribute, member)
                if problem:
                    message = f"{plugin.name!r}: {registry.noun} {member!r} {problem}"
                    raise RecipeError(Detail(message, "plugins", member))
    except RecipeError:
        for registry, member in added:
            registry.remove(member)
        raise


def _misfit(attribute: str, member: str) -> str | None:
    """Return why a member that has all that its registry requires does not fit, or None."""
    loaded = REGISTRIES[attribute].load(member)
    if attribute == "FILTERS":
        if not isinstance(loaded.FILTER, Filter):
            return f"has a FILTER that is a {type(loaded.FILTER).__name__}; it must be a Filter"
        if (loaded.FILTER.type == "string") != FILTERS[member].text:
            return f"scores {loaded.FILTER.type}, but its entry has text={FILTERS[member].text}"
    elif attribute == "STRATEGIES":
        arm = loaded.StrategyArm
        if not (isinstance(arm, type) and issubclass(arm, Arm)):
            return "has a StrategyArm that is not a class built on Arm"
        if member not in get_args(arm.model_fields["strategy"].annotation):
            return f"has a StrategyArm without the field strategy: Literal[{member!r}]"
    elif not callable(loaded.load):
        return "has a `load` that cannot be called"
    return None


def _add(plugin: Plugin, registry: Registry[Any], member: str, entry: Any) -> None:
    if not isinstance(entry, registry.entry_type):
        kind, wanted = type(entry).__name__, registry.entry_type.__name__
        message = f"{plugin.name!r}: {registry.noun} {member!r} is a {kind}; it must be a {wanted}"
        raise RecipeError(Detail(message, "plugins", kind))
    if member in registry:
        raise RecipeError(
            Detail(
                f"{plugin.name!r} brings the {registry.noun} {member!r}, but there is one of that name "
                f"already, in {registry.module_of(member)}",
                "plugins",
                member,
                fix="Give yours another name",
            )
        )
    # A plug-in's source stands in the memos of what it computed.
    version = f"{entry.version} {plugin.digest}"
    complete: Entry = replace(entry, version=version, module=entry.module or plugin.module)
    registry.add(member, complete)


def _module_of(name: str) -> tuple[ModuleType, str | None]:
    """Import a plug-in, and return its module and the file that workers need a copy of, if any."""
    if name.endswith(".py"):
        return _from_file(name), str(Path(name).resolve())
    points = {point.name: point for point in entry_points(group=GROUP)}
    try:
        return import_module(points[name].module if name in points else name), None
    except (Exception, SystemExit) as error:
        raise RecipeError(
            Detail(
                f"{name!r} cannot be imported ({type(error).__name__}: {error})",
                "plugins",
                name,
                list(points),
                f"Give the path of a Python file, an importable module, or an entry point of {GROUP}; "
                f"installed: {', '.join(points) or 'none'}",
            )
        ) from error


def _from_file(name: str) -> ModuleType:
    path = Path(name).resolve()
    stem = path.stem
    if not path.is_file():
        raise RecipeError(
            Detail(
                f"no file {name!r}",
                "plugins",
                name,
                fix=f"Correct the path. {start_of_paths()}",
            )
        )
    known = sys.modules.get(stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if not _is_free(stem, path):
        raise RecipeError(
            Detail(
                f"{name!r} cannot be imported under the name {stem!r}, which is no identifier or the "
                "name of another module",
                "plugins",
                name,
                fix="Rename the file",
            )
        )
    return _executed(name, path)


def _is_free(stem: str, path: Path) -> bool:
    """Return whether a file can be imported under a name that no other module has."""
    if stem in sys.modules or not stem.isidentifier():
        return False
    other = importlib.util.find_spec(stem)
    return other is None or other.origin == str(path)


def _executed(name: str, path: Path) -> ModuleType:
    stem = path.stem
    spec = importlib.util.spec_from_file_location(stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Workers import it by this name, and so do pickles of its classes.
    sys.modules[stem] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[stem]
        raise RecipeError(
            Detail(
                f"{name!r} cannot be imported ({type(error).__name__}: {error})",
                "plugins",
                name,
                fix="Mend the file",
            )
        ) from error
    return module


def _digest(module: ModuleType) -> str:
    """Return the first digits of the SHA-256 of a plug-in's source, and of what it imports."""
    sha256 = hashlib.sha256()
    for path in source_files(module):
        sha256.update(path.name.encode() + b"\0" + path.read_bytes())
    return sha256.hexdigest()[:16]
