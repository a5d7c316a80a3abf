"""The command that trains a head on labels."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curation.cli.app import EXTEND_PANEL, AsJson, RecipePath, StorePath, app, out, print_facts
from curation.cli.facts.tables import TrainedHead
from curation.cli.output_file import as_safetensors
from curation.errors import RecipeError, unknown
from curation.progress import shown_wait
from curation.recipe import load_recipe

if TYPE_CHECKING:
    from curation.inspect.train_filter import Evaluation


Seed = Annotated[
    int,
    typer.Option(
        "--seed", min=0, max=2**32 - 1, help="Seed of the test set and of the initial weights."
    ),
]


@app.command("train-filter", rich_help_panel=EXTEND_PANEL)
def train_filter(
    recipe: RecipePath,
    store: StorePath,
    labels: Annotated[
        Path,
        typer.Option(
            "--labels",
            help="Parquet file of labels, with the columns image_id or pair_id, and label (0 or 1).",
        ),
    ],
    path: Annotated[
        Path,
        typer.Option(
            "--out", help="safetensors file to write the head to.", callback=as_safetensors
        ),
    ],
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            help="Name of the encoder whose vectors to use. The default is the one that clusters use.",
        ),
    ] = None,
    hidden: Annotated[
        int,
        typer.Option(
            "--hidden",
            min=0,
            max=4096,
            help="Units of the hidden layer. With 0 the head is linear, otherwise an MLP.",
        ),
    ] = 0,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train a head on labelled images, and print the line that adds it to `score.heads` of a recipe."""
    from curation.inspect import train_filter as training
    from curation.inspect.first_recipe.text import flow
    from curation.store.store import Store

    loaded = load_recipe(recipe)
    name = encoder or loaded.semantic_encoder
    if name not in loaded.embed.encoders:
        raise RecipeError(unknown("encoder", name, loaded.embed.encoders, "--encoder"))
    embeddings = training.vectors_of_recipe(loaded, Store(store), name)
    read = training.read_labels(labels)
    with shown_wait("Training the head …"):
        evaluation = training.train_filter(embeddings, read, path, hidden, seed)
    head = {"kind": "mlp" if hidden else "linear", "encoder": name, "weights": str(path)}
    head |= {"activation": "relu", "output": "sigmoid"} if hidden else {}
    if as_json:
        print_facts(TrainedHead(**asdict(evaluation), head=head))
        return
    _print_evaluation(evaluation)
    out.print(f"score.heads   good: {flow(head)}")


def _print_evaluation(evaluation: Evaluation) -> None:
    without = evaluation.without_vector
    out.print(
        f"{evaluation.images:,} labelled images, {evaluation.wanted:,} of them wanted"
        + (f"; {without:,} more have no vector" if without else "")
    )
    out.print(
        f"On a test set of {evaluation.test_images:,} of them: area under the ROC curve "
        f"{evaluation.roc_auc:.3f}, average precision {evaluation.average_precision:.3f}"
    )
