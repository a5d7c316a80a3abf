"""Shows that nothing is left in a store of what was taken down: every value of a file is decoded."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import fastavro
import pyarrow as pa

from curation.errors import StoreError
from curation.media.pictures.likeness import looks_like
from curation.progress import ProgressBar
from curation.runner.takedown.alike import alike_images, vector_files
from curation.runner.takedown.file_search import FileSearch
from curation.runner.takedown.texts import mentions
from curation.store.removal import GC
from curation.store.storage.base import LeavesFiles
from curation.store.store import Store
from curation.store.tombstones import FOLDER, Takedowns
from curation.store.withheld import check_searched

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

_PICTURE = re.compile(r"data:image/[a-z+]+;base64,([A-Za-z0-9+/=]+)")
_BLOCK_LISTS = re.compile(r"work/[^/]+/blocked/[0-9a-f]+\.txt")
"""Block lists of recipes: domains that are not requested."""


@dataclass
class Proof:
    """What was looked at, and what was found.

    Attributes:
        files: number of files by kind: Parquet, text, Avro.
        rows: number of rows of Parquet files that were decoded.
        left: what is left, by file: the number of rows or mentions. Nothing, if all is gone.
        unreadable: files that could not be decoded.
        hashes: number of hashes of tombstones, by kind.
    """

    files: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    left: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    hashes: dict[str, int] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether nothing is left, and everything could be decoded."""
        return not self.left and not self.unreadable


def prove(store: Store) -> Proof:
    """Decode all files of a store, and look for what was taken down.

    Raises:
        StoreError: nothing was taken down, or the search of a tombstone did not end.
    """
    takedowns = store.takedowns(reload=True)
    if takedowns is None:
        raise StoreError(
            f"Nothing was taken down in {store.uri}, so there is nothing to prove",
            fix="Take something down first, or name another --store",
        )
    check_searched(store, takedowns)
    proof = Proof(hashes=_hashes(takedowns))
    search = FileSearch(takedowns, decode=True)
    paths = list(_paths(store))
    with ProgressBar("prove", len(paths)) as bar:
        for done, path in enumerate(paths, 1):
            _look_at(store, path, search, takedowns, proof)
            bar.set_done(done)
    _look_at_vectors(store, takedowns, proof)
    for path in sorted(takedowns.files.intersection(paths)):
        # It may hold vectors that no id tells.
        proof.left.setdefault(path, 0)
    return proof


def _look_at_vectors(store: Store, takedowns: Takedowns, proof: Proof) -> None:
    if takedowns.descriptors:
        for path, encoder in vector_files(store).items():
            images = alike_images(store, takedowns.descriptors, {path: encoder})
            if images:
                proof.left[path] = max(len(images), proof.left.get(path, 0))


def _hashes(takedowns: Takedowns) -> dict[str, int]:
    counts = {kind: len(hashes) for kind, hashes in takedowns.hashes.items()}
    counts |= {"like": len(takedowns.likes), "descriptor": len(takedowns.descriptors)}
    counts |= {"image that no pair has": len(takedowns.orphans)}
    return {kind: count for kind, count in counts.items() if count}


def _paths(store: Store) -> Iterator[str]:
    """Yield all files of a store but the log of gc; unfinished ones too, where they can be listed."""
    storage = store.storage
    for folder in storage.folders(""):
        yield from storage.files(folder, recursive=True)
        if isinstance(storage, LeavesFiles):
            yield from storage.leftovers(folder)
    yield from storage.files("")


def _look_at(
    store: Store, path: str, search: FileSearch, takedowns: Takedowns, proof: Proof
) -> None:
    if path.startswith(f"steps/{GC}/") or _BLOCK_LISTS.fullmatch(path):
        return
    try:
        kind, left = _found_in(store, path, search, takedowns, proof)
    except FileNotFoundError:
        return
    except (pa.ArrowException, OSError, ValueError):
        proof.unreadable.append(path)
        return
    proof.files[kind] = proof.files.get(kind, 0) + 1
    if left:
        proof.left[path] = left


def _found_in(
    store: Store, path: str, search: FileSearch, takedowns: Takedowns, proof: Proof
) -> tuple[str, int]:
    if ".parquet" in path.rsplit("/", 1)[-1]:
        hits = search.search(store.storage, path)
        proof.rows += hits.read
        return "Parquet", hits.rows + len(mentions(hits.footer, takedowns))
    content = store.storage.read(path)
    if content is None:
        raise FileNotFoundError(path)
    if path.endswith(".avro"):
        rows = str(list(fastavro.reader(io.BytesIO(content))))
        return "Avro", len(mentions(rows, takedowns))
    text = content.decode()
    if path.startswith(f"{FOLDER}/"):
        # The hashes themselves are keyed, so they match nothing.
        return "tombstone", len(mentions(text, takedowns))
    pictures = (base64.b64decode(picture) for picture in _PICTURE.findall(text))
    alike = sum(looks_like(picture, takedowns.likes) for picture in pictures)
    return "text", alike + len(mentions(_PICTURE.sub("", text), takedowns))
