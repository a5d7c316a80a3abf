"""A head learned from labels: which pictures are wanted, told by a linear model or a small network.

The scheme of Data Filtering Networks (Fang et al. 2023): a model trained on pairs known to be good
scores all others. Theirs is a CLIP of its own; here it is a head on vectors that a run has.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import Ids, Vectors, comparable_rows, vector_matrix
from curation.engine.runs import positions_in
from curation.engine.table import Table
from curation.errors import RecipeError, StoreError
from curation.stages.score.heads.base import ABOUT

HELD_BACK = 0.2
"""Part of the labels that nothing is learned from."""
FEWEST = 10
"""Labelled pictures of either kind without which nothing is learned."""
IDS = ("image_id", "pair_id")


@dataclass(frozen=True)
class Labels:
    """Identities in the column `by`, rising and each once, and whether each is wanted, (n,) each."""

    by: str
    ids: Ids
    wanted: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Learned:
    """What a head was learned from, and how well it ranks what was held back."""

    pictures: int
    wanted: int
    without_vector: int
    held_back: int
    roc_auc: float
    average_precision: float


def read_labels(path: Path) -> Labels:
    """Return the labels of a Parquet file with `image_id` or `pair_id`, and `label` (0 or 1).

    Raises:
        RecipeError: the file cannot be read, lacks a column, is empty, or labels one picture in two
            ways.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise RecipeError(f"The labels {str(path)!r} cannot be read as Parquet: {error}") from error
    by = next((name for name in IDS if name in table.column_names), None)
    if by is None or "label" not in table.column_names:
        raise RecipeError(
            f"The labels {str(path)!r} have the columns {', '.join(table.column_names)}; wanted are "
            "image_id or pair_id, and label (0 or 1)."
        )
    rows = table.select([by, "label"]).to_pandas()
    if not len(rows):
        raise RecipeError(f"{str(path)!r} holds no label.")
    bad = rows["label"][~rows["label"].isin([0, 1])]
    if len(bad):
        raise RecipeError(
            f"{str(path)!r}: {len(bad)} labels are neither 0 nor 1, as {bad.iloc[0]}."
        )
    rows = rows.astype({"label": bool}).drop_duplicates().sort_values(by)
    twice = rows[by][rows[by].duplicated()]
    if len(twice):
        raise RecipeError(f"{str(path)!r} labels {twice.iloc[0]} both 0 and 1. Keep one of them.")
    return Labels(by, rows[by].to_numpy().astype("S32"), rows["label"].to_numpy())


def labelled_vectors(embeddings: Table, labels: Labels) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """Return the vectors of labelled rows, (m, dim), and which label each has, each label once.

    Raises:
        StoreError: no labelled row has a vector.
    """
    vectors, places = [], []
    for fragment in embeddings.fragments.values():
        table = fragment.read([labels.by, "vector"])
        table = table.filter(pa.array(comparable_rows(table.column("vector"))))
        ids = to_ids(table.column(labels.by))
        place, known = positions_in(ids, labels.ids)
        if known.any():
            vectors.append(vector_matrix(table.column("vector").filter(pa.array(known))))
            places.append(place[known])
    if not vectors:
        raise StoreError(
            f"No labelled picture has a vector in {embeddings.manifest.table}. The identities are "
            "those of the tables images and embeddings."
        )
    place, first = np.unique(np.concatenate(places), return_index=True)
    return np.concatenate(vectors)[first], place


def train_filter(
    embeddings: Table, labels: Labels, out: Path, hidden: int = 0, seed: int = 0
) -> Learned:
    """Learn a head and write it: `linear`, or with `hidden` units an `mlp` (activation relu, output
    sigmoid).

    Args:
        embeddings: vectors of one encoder.
        labels: which pictures are wanted.
        out: safetensors file to write.
        hidden: width of the layer between; 0 for none.
        seed: decides what is held back and where training starts.

    Raises:
        RecipeError: there are too few labels of either kind.
        StoreError: no labelled row has a vector.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    vectors, place = labelled_vectors(embeddings, labels)
    wanted = labels.wanted[place]
    most = min(int(wanted.sum()), int((~wanted).sum()))
    if most < FEWEST:
        raise RecipeError(
            f"Of {len(wanted)} labelled pictures with a vector {int(wanted.sum())} are wanted and "
            f"{int((~wanted).sum())} not; at least {FEWEST} of either kind are needed."
        )
    held_back = _held_back(labels.ids[place], wanted, seed)
    x, y = vectors.astype(np.float64), wanted.astype(int)
    model = _fitted(x[~held_back], y[~held_back], hidden, seed)
    scores = model.predict_proba(x[held_back])[:, 1]
    learned = Learned(
        pictures=len(wanted),
        wanted=int(wanted.sum()),
        without_vector=len(labels.ids) - len(place),
        held_back=int(held_back.sum()),
        roc_auc=float(roc_auc_score(y[held_back], scores)),
        average_precision=float(average_precision_score(y[held_back], scores)),
    )
    _write(_fitted(x, y, hidden, seed), hidden, embeddings, learned, out)
    return learned


def _held_back(ids: Ids, wanted: npt.NDArray[np.bool_], seed: int) -> npt.NDArray[np.bool_]:
    """Return which labels nothing is learned from: a seeded part of either kind."""
    keys = seeded_keys(ids, seed, "held back")
    found = np.zeros(len(ids), dtype=bool)
    for kind in (wanted, ~wanted):
        own = np.flatnonzero(kind)
        order = own[np.argsort(keys[own], kind="stable")]
        found[order[: max(1, round(HELD_BACK * len(own)))]] = True
    return found


def _fitted(x: npt.NDArray[np.float64], y: npt.NDArray[Any], hidden: int, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    if not hidden:
        # Unit vectors are short in each direction, so little is held against large weights.
        return LogisticRegression(C=100.0, class_weight="balanced", max_iter=2000).fit(x, y)
    model = MLPClassifier((hidden,), alpha=1e-4, max_iter=500, random_state=seed)
    return model.fit(x, y)


def _write(model: Any, hidden: int, embeddings: Table, learned: Learned, out: Path) -> None:
    import torch
    from safetensors.torch import save_file

    def tensor(values: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32))

    if hidden:
        state = {}
        for number, (weight, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
            state[f"layers.{number}.weight"] = tensor(weight.T)
            state[f"layers.{number}.bias"] = tensor(bias)
    else:
        state = {"weight": tensor(model.coef_), "bias": tensor(model.intercept_)}
    encoder = embeddings.manifest.stats.get("encoder")
    # One entry: several would stand in the file in any order.
    about = {"encoder": encoder, "learned": learned.__dict__}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, out, metadata={ABOUT: json.dumps(about, sort_keys=True)})
