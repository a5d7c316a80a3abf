"""The source files that decide what a plug-in computes: its own, and those that it imports.

Files of Python and of installed packages do not count: `curation` and its dependencies have versions.
"""

from __future__ import annotations

import ast
import importlib.util
import site
import sys
import sysconfig
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_PACKAGE = __name__.partition(".")[0]
_LIBRARIES = ("stdlib", "platstdlib", "purelib", "platlib")


def source_files(module: ModuleType) -> list[Path]:
    """Return the files of a plug-in, and then those of the modules that it imports.

    A package counts as a whole. Modules that are imported by other means than a statement do not count.
    """
    top = module.__name__.partition(".")[0]
    plugin_files = _files_in(_places_of(sys.modules.get(top, module).__spec__))
    plugin_files = plugin_files or [Path(str(module.__file__))]
    imported: dict[str, list[Path]] = {top: []}
    waiting = list(plugin_files)
    while waiting:
        for name in _imported_by(waiting.pop().read_bytes()):
            if name not in imported:
                imported[name] = _files_near(name)
                waiting += imported[name]
    return [*plugin_files, *(path for name in sorted(imported) for path in imported[name])]


@lru_cache(maxsize=256)
def _imported_by(source: bytes) -> frozenset[str]:
    """Return the names of the modules that a source imports, without what follows a dot."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        # A file of its package that nothing has imported.
        return frozenset()
    return frozenset(name.partition(".")[0] for node in ast.walk(tree) for name in _names(node))


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module]
    return []


def _files_near(name: str) -> list[Path]:
    """Return the files of a module, unless it belongs to Python, to a library or to this package."""
    if name == _PACKAGE or name in sys.builtin_module_names:
        return []
    known = sys.modules.get(name)
    try:
        # What stands in for a module, as some libraries have it, need not say where it is from.
        spec = importlib.util.find_spec(name) if known is None else getattr(known, "__spec__", None)
    except (ImportError, ValueError):
        return []
    # A library is not listed: torch alone has thousands of files.
    places = [place for place in _places_of(spec) if not _is_in_library(place)]
    return [path for path in _files_in(places) if not _is_in_library(path)]


def _places_of(spec: ModuleSpec | None) -> list[Path]:
    """Return the file of a module; of a package, its folders."""
    if spec is None:
        return []
    folders = spec.submodule_search_locations
    if folders is not None:
        return [Path(folder) for folder in folders]
    path = Path(spec.origin or "")
    return [path] if path.suffix == ".py" else []


def _files_in(places: list[Path]) -> list[Path]:
    """Return the files of Python among places, and in those that are folders."""
    paths = (path for place in places for path in (place, *place.rglob("*.py")))
    return sorted(path for path in paths if path.is_file())


def _is_in_library(path: Path) -> bool:
    return any(library in path.resolve().parents for library in _library_folders())


@cache
def _library_folders() -> frozenset[Path]:
    paths = [sysconfig.get_path(name) for name in _LIBRARIES]
    paths += [*site.getsitepackages(), site.getusersitepackages()]
    return frozenset(Path(path).resolve() for path in paths)
