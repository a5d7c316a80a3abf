"""Measures the structure of the package from its source: who imports whom, and how long functions are.

`python scripts/structure.py` prints the figures; tests hold them to their bounds.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "curation"

LAYERS = (
    (
        *("errors", "version", "masking", "secrets", "terminal", "streams", "logs", "progress"),
        *("activity", "log_file"),
    ),
    ("store",),
    ("engine",),
    ("algorithms",),
    ("media",),
    ("stages",),
    ("plugins", "plugin_sources"),
    ("recipe",),
    ("flow",),
    ("runner", "launch"),
    ("inspect", "telemetry"),
    ("cli", "airflow"),
    ("", "__main__"),
)
"""Parts of the package from the bottom to the top; the last is its public interface: `__init__.py`, and
`python -m`."""

Imports = Mapping[str, frozenset[str]]


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Return the source files of a package by the dotted name of their module."""
    paths = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def imports_of(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Yield the modules of the package that a file imports, wherever in the file it does so.

    Imports for type checkers alone count too.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif (
            isinstance(node, ast.ImportFrom)
            and node.level == 0
            and node.module is not None
            and node.module in known
        ):
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                yield member if member in known else node.module


def import_graph(package: Path = PACKAGE) -> dict[str, frozenset[str]]:
    """Return for each module of a package the modules of the package that it imports."""
    known = modules(package)
    return {name: frozenset(imports_of(path, known)) - {name} for name, path in known.items()}


def layer_of(module: str) -> int:
    """Return the number of a module's layer, 0 the lowest.

    Raises:
        ValueError: the module stands in no layer.
    """
    part = [*module.split("."), ""][1]
    for number, parts in enumerate(LAYERS):
        if part in parts:
            return number
    raise ValueError(f"{module} stands in no layer. Layers: {LAYERS}")


def upward_imports(graph: Imports) -> list[str]:
    """Return the imports that point from a lower layer to a higher one, as `a -> b`."""
    return [
        f"{module} -> {imported}"
        for module in sorted(graph)
        for imported in sorted(graph[module])
        if layer_of(imported) > layer_of(module)
    ]


def sideways_imports(graph: Imports) -> list[str]:
    """Return the imports from one stage to another, as `a -> b`."""
    return [
        f"{module} -> {imported}"
        for module in sorted(graph)
        for imported in sorted(graph[module])
        if _stage(module) and _stage(imported) and _stage(module) != _stage(imported)
    ]


def _stage(module: str) -> str | None:
    parts = module.split(".")
    return parts[2] if parts[1:2] == ["stages"] and len(parts) > 2 else None


def folder_graph(graph: Imports, known: Mapping[str, Path]) -> dict[str, set[str]]:
    """Return for each folder the folders that its files import from, itself left out.

    Modules directly in the package are layers of their own, and count as folders.
    """
    folder = {name: _folder(path) for name, path in known.items()}
    imported_folders: dict[str, set[str]] = {place: set() for place in folder.values()}
    for module, imported in graph.items():
        imported_folders[folder[module]] |= {folder[name] for name in imported} - {folder[module]}
    return imported_folders


def cycles(graph: Mapping[str, set[str] | frozenset[str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other (Tarjan 1972), larger than one node."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in order:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], order[other])
        if lowest[node] == order[node]:
            place = stack.index(node)
            if len(stack) - place > 1:
                groups.append(sorted(stack[place:]))
            del stack[place:]

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return groups


def _folder(path: Path) -> str:
    place = path if path.parent == PACKAGE else path.parent
    return place.relative_to(PACKAGE.parent).as_posix()


@dataclass(frozen=True)
class Lengths:
    """Lengths in lines: of functions (median, 90th percentile, longest) and of the longest file."""

    median: int
    ninetieth: int
    longest: int
    longest_function: str
    longest_file: int
    longest_file_name: str


def lengths(package: Path = PACKAGE) -> Lengths:
    """Measure functions, their decorators and docstrings included, and files."""
    functions, files = [], []
    for name, path in modules(package).items():
        text = path.read_text(encoding="utf-8")
        files.append((text.count("\n"), name))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                functions.append((node.end_lineno - node.lineno + 1, f"{name}.{node.name}"))
    functions.sort()
    sizes = [size for size, _ in functions]
    return Lengths(
        sizes[len(sizes) // 2],
        sizes[len(sizes) * 9 // 10],
        *functions[-1],
        *max(files),
    )


def main() -> None:
    """Print the figures."""
    known, graph = modules(), import_graph()
    up, sideways = upward_imports(graph), sideways_imports(graph)
    in_cycles = cycles(folder_graph(graph, known))
    print(f"imports that point up: {len(up)}", *up, sep="\n  ")
    print(f"imports between stages: {len(sideways)}", *sideways, sep="\n  ")
    print(f"folders in cycles: {sum(map(len, in_cycles))}", *in_cycles, sep="\n  ")
    print(f"modules in cycles: {sum(map(len, cycles(graph)))}", *cycles(graph), sep="\n  ")
    print(lengths())


if __name__ == "__main__":
    main()
