"""Why a row is in the dataset, or is not: what each stage made of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import dropwhile
from pathlib import Path
from typing import Any

from curation.engine.table_name import TableName
from curation.inspect.current import CurrentTables
from curation.inspect.why.arms import Subject, arms_of, nearest_seeds
from curation.inspect.why.copies import Copies, copies_of
from curation.inspect.why.history import claimed_since, listed_since
from curation.inspect.why.lookup import Located, find_rows
from curation.inspect.why.origin import Origins
from curation.inspect.why.scores import scores_of
from curation.inspect.why.tables import Place, RowReader
from curation.inspect.why.text import lines_of
from curation.media.encoders.params import EMBEDDINGS
from curation.stages.ingest.sources import IMAGE_ENDINGS
from curation.store.run_log import read_runs
from curation.store.run_record import RunRecord
from curation.store.store import DATASET
from curation.terminal import visible

SHOWN_ROWS = 5
NEAREST = 5
PAIR_COLUMNS = ["role", "source", "source_key", "url", "location", "caption"]


@dataclass(frozen=True)
class Why:
    """What became of the rows that an id, a URL, a key or a file stands for.

    Attributes:
        what: what was asked for.
        kind: what it was taken for; None if the store has nothing of it.
        recipe: name of the recipe.
        run: the run whose tables were read.
        found: number of rows that it stands for.
        rows: what each stage made of the first of these rows, by stage.
        nearest: for the file of a picture that is not in the store, the nearest ones that are.
        note: what the answer lacks, or is not about, and why.
    """

    what: str
    kind: str | None
    recipe: str
    run: str
    found: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    nearest: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return json.loads(json.dumps(vars(self), default=str))  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return "\n".join(visible(line) for line in lines_of(vars(self)))

    def __repr__(self) -> str:
        return str(self)


def explain(current: CurrentTables, what: str | Path) -> Why:
    """Return what became of what was asked for. Only fragments that may hold it are read.

    Args:
        current: the current tables of a recipe.
        what: an image_id, pair_id, SHA-256, URL, key of the source, location, or the path of a file.

    Raises:
        StoreError: a table is missing or damaged, or tables do not belong together.
    """
    current.check_together("why", current)
    tables = RowReader(current)
    located = find_rows(tables, what)
    answer = Why(str(what), located.kind, current.recipe, current.run, len(located.places))
    if located.places:
        explainer = _Explainer(current, _runs_until(current))
        rows = [explainer.row(place) for place in located.places[:SHOWN_ROWS]]
        return replace(answer, rows=rows, note=_other_bytes(located, rows))
    return _absent(current, located, answer)


def _runs_until(current: CurrentTables) -> list[RunRecord]:
    """Return the run that decides, and the finished runs of its recipe before it, the latest first."""
    records = dropwhile(lambda record: record.run != current.run, read_runs(current.store))
    return [
        record
        for record in records
        if record.run == current.run
        or (record.state == "finished" and record.recipe == current.recipe)
    ]


def _other_bytes(located: Located, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a warning if a file was named, and a row of this name has the picture of other bytes."""
    is_by_name = located.file is not None and located.kind in ("location", "key")
    has_pixels = any((row["fetch"] or {}).get("width") for row in rows)
    return OTHER_BYTES if is_by_name and has_pixels else ""


def _absent(current: CurrentTables, located: Located, answer: Why) -> Why:
    """Return the answer for what is not in the store."""
    takedowns = current.store.takedowns()
    gone = " Rows that were taken down are not shown." if takedowns is not None else ""
    if located.file is None:
        return replace(answer, note=f"{_not_found(answer.what)}{gone}")
    from curation.inspect.current_search import search_current

    search = search_current(current)
    if not search.embeds_files:
        return replace(answer, note=f"No image of the store has these bytes.{gone} {NO_MODEL}")
    nearest, _ = search.nearest(search.vectors_of_files([located.file]), NEAREST)
    note = f"No image of the store has these bytes.{gone}"
    return replace(answer, nearest=nearest.to_pylist(), note=note)


NO_MODEL = (
    "Its vectors were imported, or are of a plug-in's encoder, so no model is known here that makes "
    "one of a file, and the nearest images are not shown. `curation search RECIPE` loads the plug-ins "
    "of the recipe, and takes a vector of yours with --vectors."
)
OTHER_BYTES = (
    "The file of this name has other bytes than the picture of the run: it was changed since, or is "
    "another picture."
)
NAME_THE_FILE = (
    "For a picture that is not in the store, name its file: then the nearest ones that are in it are "
    "shown."
)


def _not_found(what: str) -> str:
    """Return why nothing was found, and what to give instead."""
    if "://" in what:
        return (
            "No row has this URL, and no redirect of a row ended there. A URL says nothing of the "
            "picture, and none is requested here, so it cannot be compared: download the picture, and "
            "name its file. Then the nearest ones that are in the store are shown."
        )
    if Path(what).suffix.lower().lstrip(".") in IMAGE_ENDINGS or os.sep in what:
        return f"There is no such file, and no row has this key or location. {NAME_THE_FILE}"
    return f"No row has this id, URL, key or location. {NAME_THE_FILE}"


class _Explainer:
    """Explains rows of the current tables.

    Args:
        current: the tables.
        runs: finished runs of the recipe, the latest first.
    """

    def __init__(self, current: CurrentTables, runs: Sequence[RunRecord]) -> None:
        self._store, self._tables, self._runs = current.store, RowReader(current), runs
        self._origins = Origins(current.store, current.step_of("pairs"))

    def row(self, place: Place) -> dict[str, Any]:
        """Return what each stage made of a row, by stage."""
        tables = self._tables
        pair = tables.row("pairs", place) or {}
        image = tables.row("images", place) or {}
        role, source = pair.get("role", ""), pair.get("source", "")
        copies = copies_of(tables, place) if image.get("image_id") else None
        eligible = tables.row("eligible", place)
        answer = {
            "pair_id": place.pair_id,
            "image_id": image.get("image_id"),
            "fragment": place.fragment,
            **{name: pair.get(name) for name in PAIR_COLUMNS},
            "ingest": self._ingest(place, pair),
            "fetch": {n: v for n, v in image.items() if n not in (*PAIR_COLUMNS, *_SHARED)} or None,
            "scores": scores_of(tables, place, role),
            "vectors": self._vectors(place),
            "dedup": None if copies is None else copies.facts,
            "select": None if eligible is None else {n: eligible[n] for n in ("status", "reason")},
            "cluster": self._cluster(place),
        }
        first = self._first_of(pair)
        if first is not None:
            of_first = self.row(first)
            return answer | {name: of_first[name] for name in ("seeds", "arms", "dataset")}
        return answer | self._dataset(answer, copies, role, source)

    def _first_of(self, pair: Mapping[str, Any]) -> Place | None:
        """Return the place of the pair that a row which `ingest` dropped repeats; None for others."""
        if pair.get("duplicate_of") is None:
            return None
        for other in self._tables.places("pairs", {"pair_id": [pair["duplicate_of"]]}):
            row = self._tables.row("pairs", other, ["pair_id", "duplicate_of"])
            if row is not None and row["duplicate_of"] is None:
                return other
        return None

    def _ingest(self, place: Place, pair: Mapping[str, Any]) -> dict[str, Any]:
        decided = {name: pair.get(name) for name in ("status", "reason", "duplicate_of")}
        return decided | {
            "listed": self._origins.of(place, pair.get("source", "")),
            "since": listed_since(self._store, self._runs, place),
        }

    def _vectors(self, place: Place) -> dict[str, str]:
        """Return for each encoder `ok`, or why the row has no vector."""
        tables = [name for name in self._tables.names if EMBEDDINGS.holds(name)]
        rows = {name: self._tables.row(name, place, ["pair_id", "reason"]) for name in tables}
        return {
            str(TableName(name).member): row["reason"] or "ok"
            for name, row in rows.items()
            if row is not None
        }

    def _cluster(self, place: Place) -> dict[str, Any] | None:
        row = self._tables.row("assignments", place)
        if row is None or row["cluster_id"] is None:
            return None
        rows = self._tables.count("assignments", "cluster_id", row["cluster_id"])
        return {"cluster_id": row["cluster_id"], "similarity": row["similarity"], "rows": rows}

    def _dataset(
        self, answer: Mapping[str, Any], copies: Copies | None, role: str, source: str
    ) -> dict[str, Any]:
        """Return the seeds and the arms of the image that stands for the row, and since when."""
        image_id, select = answer["image_id"], answer["select"]
        if image_id is None or select is None:
            return {"seeds": [], "arms": [], "dataset": self._membership(None, [])}
        subject = self._representative(copies) if _is_copy(copies, answer["pair_id"]) else None
        if subject is None:
            cluster = (answer["cluster"] or {}).get("cluster_id")
            subject = Subject(self._tables, image_id, role, source, select["reason"], cluster)
        return {
            "seeds": nearest_seeds(subject),
            "arms": arms_of(subject),
            "dataset": self._membership(subject.image_id, subject.claims),
        }

    def _membership(
        self, image_id: str | None, claims: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any] | None:
        """Return whether the dataset has an image, given its claims; None if there is no dataset."""
        if DATASET not in self._tables:
            return None
        since = None
        if image_id is not None and claims:
            fragment = min(claim["fragment"] for claim in claims)
            since = claimed_since(self._store, self._runs, fragment, image_id)
        return {
            "image_id": image_id,
            "is_in": bool(claims),
            "pair_id": claims[0]["pair_id"] if claims else None,
            "weight": len(claims),
            "since": since,
        }

    def _representative(self, copies: Copies | None) -> Subject | None:
        """Return the image that stands for a copy, as the arms see it."""
        if copies is None:
            return None
        wanted = {"pair_id": [copies.facts["representative_pair_id"]]}
        for place in self._tables.places("eligible", wanted, copies.fragment):
            row = self._tables.row("eligible", place)
            if row is not None and row["image_id"] is not None:
                assigned = self._tables.row("assignments", place) or {}
                facts = {name: row[name] for name in ("image_id", "role", "source", "reason")}
                return Subject(self._tables, **facts, cluster_id=assigned.get("cluster_id"))
        return None


def _is_copy(copies: Copies | None, pair_id: str) -> bool:
    """Whether another row stands for a row, whatever `select` drops the row for first."""
    if copies is None or copies.facts["contaminated"]:
        return False
    return bool(copies.facts["representative_pair_id"] != pair_id)


_SHARED = ("pair_id", "image_id", "metadata")
"""Columns of `images` that the answer has already."""
