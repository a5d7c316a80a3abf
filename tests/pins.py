"""Pins each stage's source to its version. `python -m tests.pins` writes the pins anew."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

from curation.flow import STAGES

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "tests" / "pins.json"

# What a stage's rows depend on beside its own folder.
SHARED = {
    "neighbours": [
        "knn",
        "kmeans",
        "curation/algorithms/arrays/vectors.py",
        "curation/algorithms/arrays/seeded_order.py",
    ],
    "dedup": ["curation/algorithms/knn/broadcast.py", "curation/stages/dedup/agreement.py"],
    "cluster": [
        "kmeans",
        "curation/algorithms/knn/broadcast.py",
        "curation/algorithms/knn/sample.py",
        "curation/algorithms/arrays/vectors.py",
        "curation/algorithms/arrays/seeded_order.py",
    ],
    "assign": ["kmeans", "curation/algorithms/arrays/vectors.py"],
    "quantise": [
        "knn",
        "kmeans",
        "curation/algorithms/arrays/vectors.py",
        "curation/algorithms/arrays/seeded_order.py",
    ],
    "index": ["knn", "kmeans", "curation/algorithms/arrays/vectors.py"],
    "match": [
        "knn",
        "curation/algorithms/arrays/vectors.py",
        "curation/algorithms/arrays/seeded_order.py",
    ],
    "retrieve": ["curation/algorithms/kmeans/balance.py", "curation/algorithms/kmeans/levels.py"],
    "embed": ["curation/algorithms/arrays/vectors.py"],
    "score": ["curation/algorithms/arrays/vectors.py"],
}


def _bare(path: Path) -> str:
    """The code of a file without comments, docstrings and layout."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not (isinstance(body, list) and body and isinstance(body[0], ast.Expr)):
            continue
        first = body[0].value
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            first.value = ""
    return ast.dump(tree)


def source_digest(stage: str) -> str:
    """The digest of all code that decides a stage's rows."""
    places = [ROOT / "curation" / p for p in (stage, *SHARED.get(stage, []))]
    files = sorted({f for p in places for f in (p.rglob("*.py") if p.is_dir() else [p])})
    text = "\n".join(f"{f.relative_to(ROOT)} {_bare(f)}" for f in files)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def current_pins() -> dict[str, list[object]]:
    """Version and source digest of each stage."""
    return {s.name: [s.version, source_digest(s.name)] for s in STAGES.values()}


if __name__ == "__main__":
    PINS.write_text(json.dumps(current_pins(), indent=1) + "\n")
