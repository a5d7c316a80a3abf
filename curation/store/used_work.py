"""Notes of the work tables and states without which a rerun of a step would work again: gc keeps them
for kept runs."""

from __future__ import annotations

from collections.abc import Iterable

from curation.store.sealed_json import seal
from curation.store.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

FOLDER = "used"
"""Folder of the notes, below that of the work tables of a stage."""
SHARED = "shared"
"""Folder of the states that all steps of a stage share, below that of its work tables."""


def put_used_memos(store: Store, stage: str, step: str, memos: Iterable[str]) -> None:
    """Note the memos of the work tables that a step used, unless the same ones are noted."""
    content = seal({"step": step, "memos": sorted(memos)})
    path = used_path(stage, step)
    if store.storage.read(path) != content:
        store.storage.write(path, content)


def used_memos(store: Store, stage: str, step: str) -> set[str]:
    """Return the memos that `put_used_memos` noted; none if there is no note that can be read."""
    spec = store.read_json(used_path(stage, step))
    memos = spec.get("memos") if isinstance(spec, dict) and spec.get("step") == step else None
    return {str(memo) for memo in memos} if isinstance(memos, list) else set()


def used_path(stage: str, step: str) -> str:
    """Return the path of the note of a step."""
    return f"work/{stage}/{FOLDER}/{step}.json"
