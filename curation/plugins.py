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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from curation.engine.params_base import Name
from curation.engine.registry import Entry, Registry
from curation.errors import Detail, RecipeError, start_of_paths
from curation.media.encoders import ENCODERS, SPECIAL, EncoderEntry
from curation.media.encoders.params import EncoderSpec
from curation.plugin_sources import source_files
from curation.stages.retrieve.strategies import STRATEGIES, GroupedBy, StrategyEntry
from curation.stages.retrieve.strategies.arm import Arm, Use
from curation.stages.score.heads import HEADS, HeadEntry
from curation.stages.score.heads.spec import HeadSpec
from curation.stages.screen.filters import FILTERS, FilterEntry
from curation.stages.screen.filters.base import ColumnType, Filter

GROUP = "curation.plugins"
REGISTRIES: dict[str, Registry[Any]] = {
    "FILTERS": FILTERS,
    "HEADS": HEADS,
    "ENCODERS": ENCODERS,
    "STRATEGIES": STRATEGIES,
}
"""The registries that a plug-in may add to, by the name that its dictionary has."""

FIELDS_OF_HEADS = [n for n in HeadSpec.model_fields if n not in ("kind", "encoder", "options")]
FIELDS_OF_ENCODERS = [n for n in EncoderSpec.model_fields if n not in ("model", "options")]
COLUMN_TYPES = get_args(ColumnType)
MEMBER_NAME = TypeAdapter(Name)
BESIDE = (
    "A file cannot import files beside it, of which workers have no copy: put all into one file, or "
    "install a package"
)


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


def activation(names: Iterable[str]) -> partial[None] | None:
    """Return what makes the plug-ins of a recipe known on a worker; None where there are none."""
    modules = [plugin.module for plugin in load_plugins(names)]
    return partial(_load_modules, modules) if modules else None


def _load_modules(modules: Iterable[str]) -> None:
    """Load plug-ins by their modules, whose names entry points of others may have."""
    for name in modules:
        _register(name, _imported(name, name), None)


def _load(name: str) -> Plugin:
    if name.endswith(".py"):
        return _register(name, _from_file(name), str(Path(name).resolve()))
    points = {point.name: point for point in entry_points(group=GROUP)}
    return _register(name, _imported(name, points[name].module if name in points else name), None)


def _register(name: str, module: ModuleType, path: str | None) -> Plugin:
    """Add what the module of a plug-in brings to the registries, unless it was added before."""
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
                problem = registry.problem_of(member) or next(_misfits(registry, member), None)
                if problem:
                    message = f"{plugin.name!r}: {registry.noun} {member!r} {problem}"
                    raise RecipeError(Detail(message, "plugins", member))
    except RecipeError:
        for registry, member in added:
            registry.remove(member)
        raise


def _misfits(registry: Registry[Any], member: str) -> Iterator[str]:
    """Yield why a member that has all that its registry requires does not fit."""
    loaded, entry = registry.load(member), registry[member]
    for name in registry.requires:
        if name != "FILTER" and not callable(getattr(loaded, name)):
            yield f"has a `{name}` that cannot be called"
    if isinstance(entry, FilterEntry):
        yield from _misfits_of_filter(loaded.FILTER, entry)
    elif isinstance(entry, StrategyEntry):
        yield from _misfits_of_arm(loaded.StrategyArm, member)
        yield from _unknown_names("grouped_by", [entry.grouped_by], get_args(GroupedBy))
    elif isinstance(entry, HeadEntry):
        yield from _unknown_names("needs or takes", (*entry.needs, *entry.takes), FIELDS_OF_HEADS)
    elif isinstance(entry, EncoderEntry):
        if not all(isinstance(need, tuple) and len(need) == 2 for need in entry.needs):
            yield f"has needs={entry.needs!r}; it must be pairs of a field and the reason"
            return
        yield from _unknown_names("needs", [name for name, _ in entry.needs], FIELDS_OF_ENCODERS)
        yield from _unknown_names("takes", entry.takes, SPECIAL)


def _misfits_of_filter(loaded: Any, entry: FilterEntry) -> Iterator[str]:
    if not isinstance(loaded, Filter):
        yield f"has a FILTER that is a {type(loaded).__name__}; it must be a Filter"
    elif loaded.type not in COLUMN_TYPES:
        yield f"has a FILTER of type {loaded.type!r}; valid: {', '.join(COLUMN_TYPES)}"
    elif (loaded.type == "string") != entry.text:
        yield f"scores {loaded.type}, but its entry has text={entry.text}"
    elif not callable(vars(loaded)["score"]):
        yield "has a `score` that cannot be called"


def _misfits_of_arm(arm: Any, member: str) -> Iterator[str]:
    if not (isinstance(arm, type) and issubclass(arm, Arm)):
        yield "has a StrategyArm that is not a class built on Arm"
    elif member not in get_args(arm.model_fields["strategy"].annotation):
        yield f"has a StrategyArm without the field strategy: Literal[{member!r}]"
    else:
        yield from _unknown_names("uses", arm.uses, get_args(Use))


def _unknown_names(field: str, names: Iterable[str], valid: Iterable[str]) -> Iterator[str]:
    unknown = sorted(set(names) - set(valid))
    if unknown:
        yield f"has {', '.join(unknown)} under {field}; valid: {', '.join(valid)}"


def _add(plugin: Plugin, registry: Registry[Any], member: str, entry: Any) -> None:
    if not isinstance(entry, registry.entry_type):
        kind, wanted = type(entry).__name__, registry.entry_type.__name__
        message = f"{plugin.name!r}: {registry.noun} {member!r} is a {kind}; it must be a {wanted}"
        raise RecipeError(Detail(message, "plugins", kind))
    try:
        MEMBER_NAME.validate_python(member)
    except ValidationError as error:
        message = f"{plugin.name!r}: the {registry.noun} {member!r} has no valid name"
        fix = "Write lower-case letters, digits, `_` and `-`, at most 64"
        raise RecipeError(Detail(message, "plugins", str(member), fix=fix)) from error
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


def _imported(name: str, module: str) -> ModuleType:
    """Import a module that a plug-in's name stands for."""
    try:
        return import_module(module)
    except (Exception, SystemExit) as error:
        installed = installed_plugins()
        raise RecipeError(
            Detail(
                f"{name!r} cannot be imported ({type(error).__name__}: {error})",
                "plugins",
                name,
                installed,
                f"Give the path of a Python file, an importable module, or an entry point of {GROUP}; "
                f"installed: {', '.join(installed) or 'none'}",
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
        message = f"{name!r} cannot be imported ({type(error).__name__}: {error})"
        fix = BESIDE if isinstance(error, ModuleNotFoundError) else "Mend the file"
        raise RecipeError(Detail(message, "plugins", name, fix=fix)) from error
    return module


def _digest(module: ModuleType) -> str:
    """Return the first digits of the SHA-256 of a plug-in's source, and of what it imports."""
    sha256 = hashlib.sha256()
    for path in source_files(module):
        sha256.update(path.name.encode() + b"\0" + path.read_bytes())
    return sha256.hexdigest()[:16]
