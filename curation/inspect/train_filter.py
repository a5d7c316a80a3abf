"""Trains a head on labels: a linear model or a small network that scores how well an image fits.

This follows Data Filtering Networks (Fang et al. 2023): a model trained on known good pairs scores all
others. Their model is a CLIP of its own; here it is a head on the vectors of a finished run.
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
from curation.engine.params_base import changed_fields
from curation.engine.sorted_arrays import positions_in
from curation.engine.table import Table, open_table
from curation.errors import Detail, RecipeError, StoreError
from curation.inspect.lineage import finished_table
from curation.media.encoders.params import EMBEDDINGS
from curation.recipe import Recipe
from curation.stages.score.heads.base import METADATA_KEY
from curation.store.store import Store

TEST_FRACTION = 0.2
"""Fraction of the labels that the evaluation uses and the evaluated model does not see."""
MIN_LABELS = 10
"""Smallest number of labelled images of each class to train on."""
ID_COLUMNS = ("image_id", "pair_id")
ID_LENGTH = 32
"""Characters of an id."""


@dataclass(frozen=True)
class Labels:
    """Ids of the column `id_column`, sorted and unique, and whether each is wanted, (n,) each."""

    id_column: str
    ids: Ids
    wanted: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Evaluation:
    """What a head was trained on, and how well it ranks the images of the test set.

    Attributes:
        images: labelled images that have a vector.
        wanted: how many of them are labelled 1.
        without_vector: labelled images that have no vector, and are left out.
        test_images: how many of `images` are in the test set.
        roc_auc: area under the ROC curve on the test set.
        average_precision: average precision on the test set.
    """

    images: int
    wanted: int
    without_vector: int
    test_images: int
    roc_auc: float
    average_precision: float


OF_LABELS = "They must have image_id or pair_id, and label (0 or 1)"


def read_labels(path: Path) -> Labels:
    """Return the labels of a Parquet file with columns `image_id` or `pair_id`, and `label` (0 or 1).

    Raises:
        RecipeError: the file cannot be read, lacks a column, is empty, or gives one image both labels.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        message = f"The labels {str(path)!r} cannot be read as Parquet: {error}"
        raise RecipeError(Detail(message, "--labels", str(path), fix=OF_LABELS)) from error
    id_column = next((name for name in ID_COLUMNS if name in table.column_names), None)
    if id_column is None or "label" not in table.column_names:
        message = f"The labels {str(path)!r} have the columns {', '.join(table.column_names)}"
        raise RecipeError(
            Detail(message, "--labels", table.column_names, [*ID_COLUMNS, "label"], OF_LABELS)
        )
    rows = table.select([id_column, "label"]).to_pandas()
    if not len(rows):
        raise RecipeError(Detail(f"{str(path)!r} holds no label", "--labels", fix=OF_LABELS))
    invalid = rows["label"][~rows["label"].isin([0, 1])]
    if len(invalid):
        example = repr(invalid.tolist()[0])
        message = f"{str(path)!r}: {len(invalid)} labels are neither 0 nor 1, for example {example}"
        fix = "Write labels as the numbers 0 and 1"
        raise RecipeError(Detail(message, "--labels", example, fix=fix))
    _check_ids(rows[id_column].tolist(), id_column, path)
    rows = rows.astype({"label": bool}).drop_duplicates().sort_values(id_column)
    repeated = rows[id_column][rows[id_column].duplicated()]
    if len(repeated):
        raise RecipeError(
            f"{str(path)!r} labels {repeated.iloc[0]} both 0 and 1",
            fix="Keep one of the two labels",
        )
    return Labels(id_column, rows[id_column].to_numpy().astype("S32"), rows["label"].to_numpy())


def _check_ids(ids: list[Any], column: str, path: Path) -> None:
    """Refuse ids that no table has."""
    wrong = [i for i in ids if not (isinstance(i, str) and i.isascii() and 0 < len(i) <= ID_LENGTH)]
    if wrong:
        message = f"{str(path)!r}: {len(wrong)} values are no {column}, for example {wrong[0]!r}"
        fix = f"Take ids from the tables images and embeddings: {ID_LENGTH} hexadecimal digits as text"
        raise RecipeError(Detail(message, "--labels", repr(wrong[0]), fix=fix))


def vectors_of_recipe(recipe: Recipe, store: Store, encoder: str) -> Table:
    """Return the vectors of an encoder of a recipe, in its latest finished run.

    Before the recipe has run, those of another recipe serve, if the same encoder made them.

    Raises:
        StoreError: there are none, or another encoder with this name made them.
    """
    name = EMBEDDINGS.table(encoder)
    finished = finished_table(recipe, store, name)
    if finished is not None:
        return finished
    table = open_table(store, name)
    made_by = table.manifest.params.get("encoders", {}).get(encoder)
    changed = changed_fields(recipe.embed.encoders[encoder], made_by)
    if changed:
        raise StoreError(
            Detail(
                f"{table.manifest.table} in {store.uri} was made by another recipe, whose encoder "
                f"{encoder!r} differs in {', '.join(sorted(changed))}",
                "--encoder",
                encoder,
                fix="Run the recipe first (curation run RECIPE --until embed --store STORE)",
            )
        )
    return table


@dataclass(frozen=True)
class LabelledVectors:
    """Labelled images that have a vector, in the order of their labels.

    Attributes:
        vectors: of unit length, (m, dim).
        images: their image ids, (m,).
        position: of each one's label, (m,).
    """

    vectors: Vectors
    images: Ids
    position: npt.NDArray[np.int64]

    def classes(self) -> npt.NDArray[np.int64]:
        """Return a number for each image, the same for those of equal vectors, (m,)."""
        rows = np.ascontiguousarray(self.vectors)
        whole = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
        return np.unique(whole, return_inverse=True)[1]


def labelled_vectors(embeddings: Table, labels: Labels) -> LabelledVectors:
    """Return the vectors of labelled images.

    Each label counts once, even if several rows have its id.

    Raises:
        StoreError: no labelled image has a vector.
    """
    vectors, images, positions = [], [], []
    for fragment in embeddings.fragments.values():
        table = fragment.read(list(dict.fromkeys([labels.id_column, "image_id", "vector"])))
        table = table.filter(pa.array(comparable_rows(table.column("vector"))))
        ids = to_ids(table.column(labels.id_column))
        position, has_label = positions_in(ids, labels.ids)
        if has_label.any():
            table = table.filter(pa.array(has_label))
            vectors.append(vector_matrix(table.column("vector")))
            images.append(to_ids(table.column("image_id")))
            positions.append(position[has_label])
    if not vectors:
        message = f"No labelled image has a vector in {embeddings.manifest.table}"
        fix = "Labels must use the ids of the tables images and embeddings"
        raise StoreError(Detail(message, "--labels", fix=fix))
    unique, first = np.unique(np.concatenate(positions), return_index=True)
    return LabelledVectors(np.concatenate(vectors)[first], np.concatenate(images)[first], unique)


def _without_repeats(labelled: LabelledVectors, labels: Labels) -> LabelledVectors:
    """Return each image once, also where labels name several of its pairs.

    With vectors of captions, pairs of one image whose vectors differ stay.

    Raises:
        RecipeError: pairs of one image and one vector have both labels.
    """
    keys = np.stack([labelled.classes(), np.unique(labelled.images, return_inverse=True)[1]])
    _, first, number = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    wanted = labels.wanted[labelled.position]
    differs = np.flatnonzero(wanted != wanted[first][number.ravel()])
    if len(differs):
        other = differs[0], first[number.ravel()[differs[0]]]
        ids = " and ".join(sorted(labels.ids[labelled.position[row]].decode() for row in other))
        image = labelled.images[other[0]].decode()
        message = f"{ids} are rows of image {image}, and one is labelled 0, the other 1"
        raise RecipeError(Detail(message, "--labels", image, fix="Keep one of the two labels"))
    kept = np.sort(first)
    return LabelledVectors(labelled.vectors[kept], labelled.images[kept], labelled.position[kept])


def train_filter(
    embeddings: Table, labels: Labels, out: Path, hidden: int = 0, seed: int = 0
) -> Evaluation:
    """Train a head and write it, and return how well such a head ranks images that it did not see.

    A model is trained without the test set and evaluated on it. Images of equal vectors are all in the
    test set, or none of them is. The head that is written is then trained on all labels.

    Args:
        embeddings: vectors of one encoder.
        labels: which images are wanted.
        out: safetensors file to write.
        hidden: units of the hidden layer; 0 for a `linear` head without one, more for an `mlp` head
            (activation relu, output sigmoid).
        seed: decides the test set and the initial weights.

    Raises:
        RecipeError: there are too few labels of one class, or an image has both labels.
        StoreError: no labelled image has a vector.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    labelled = labelled_vectors(embeddings, labels)
    distinct = _without_repeats(labelled, labels)
    wanted = labels.wanted[distinct.position]
    in_test = _test_set(labels.ids[distinct.position], distinct.classes(), wanted, seed)
    x, y = distinct.vectors.astype(np.float64), wanted.astype(int)
    model = _fit(x[~in_test], y[~in_test], hidden, seed)
    scores = model.predict_proba(x[in_test])[:, 1]
    evaluation = Evaluation(
        images=len(wanted),
        wanted=int(wanted.sum()),
        without_vector=len(labels.ids) - len(labelled.position),
        test_images=int(in_test.sum()),
        roc_auc=float(roc_auc_score(y[in_test], scores)),
        average_precision=float(average_precision_score(y[in_test], scores)),
    )
    _write(_fit(x, y, hidden, seed), hidden, embeddings, evaluation, out)
    return evaluation


def _test_set(
    ids: Ids, classes: npt.NDArray[np.int64], wanted: npt.NDArray[np.bool_], seed: int
) -> npt.NDArray[np.bool_]:
    """Return which images are in the test set, (n,): a seeded fraction of the vectors of each label.

    Args:
        ids: of their labels, ascending, (n,).
        classes: the same number for images of equal vectors, (n,).
        wanted: their labels, (n,).
        seed: decides the fraction.

    Raises:
        RecipeError: too few vectors of one label differ.
    """
    _, first, number = np.unique(classes, return_index=True, return_inverse=True)
    keys = seeded_keys(ids[first], seed, "held back")
    has_wanted = np.bincount(number, weights=wanted) > 0
    _check_labels(wanted, has_wanted)
    in_test = np.zeros(len(first), dtype=bool)
    for of_label in (has_wanted, ~has_wanted):
        vectors = np.flatnonzero(of_label)
        order = vectors[np.argsort(keys[vectors], kind="stable")]
        in_test[order[: max(1, round(TEST_FRACTION * len(vectors)))]] = True
    return in_test[number]


def _check_labels(wanted: npt.NDArray[np.bool_], has_wanted: npt.NDArray[np.bool_]) -> None:
    """Refuse labels with too few images of one label.

    Args:
        wanted: label of each image, (n,).
        has_wanted: whether a wanted image has the vector, for each vector that differs, (m,).
    """
    positive, negative = int(wanted.sum()), int((~wanted).sum())
    of_all = f"Of {len(wanted)} labelled images with a vector"
    message = f"{of_all} {positive} are wanted and {negative} are not"
    fix = f"At least {MIN_LABELS} of each are needed: add labels"
    if min(positive, negative) >= MIN_LABELS:
        positive, negative = int(has_wanted.sum()), int((~has_wanted).sum())
        message += f"; their vectors that differ are {positive} and {negative}"
        fix = f"At least {MIN_LABELS} different vectors of each are needed: add labels"
    if min(positive, negative) < MIN_LABELS:
        raise RecipeError(Detail(message, "--labels", [positive, negative], fix=fix))


def _fit(x: npt.NDArray[np.float64], y: npt.NDArray[Any], hidden: int, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    if not hidden:
        # Values of unit vectors are small and need large weights, hence the weak regularisation.
        return LogisticRegression(C=100.0, class_weight="balanced", max_iter=2000).fit(x, y)
    model = MLPClassifier((hidden,), alpha=1e-4, max_iter=500, random_state=seed)
    return model.fit(x, y)


def _write(model: Any, hidden: int, embeddings: Table, evaluation: Evaluation, out: Path) -> None:
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
    # safetensors writes several entries in no fixed order, so there is only one.
    about = {"encoder": encoder, "learned": evaluation.__dict__}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, out, metadata={METADATA_KEY: json.dumps(about, sort_keys=True)})
