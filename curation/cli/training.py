"""Commands that learn from a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from curation.cli.app import RecipePath, StorePath, app, out
from curation.errors import RecipeError
from curation.recipe import load_recipe


@app.command("train-filter")
def train_filter(
    recipe: RecipePath,
    store: StorePath,
    labels: Annotated[
        Path, typer.Option("--labels", help="Parquet: image_id or pair_id, and label (0 or 1).")
    ],
    to: Annotated[Path, typer.Option("--out", help="safetensors file to write.")],
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="Whose vectors; by default that of clusters.")
    ] = None,
    hidden: Annotated[
        int, typer.Option("--hidden", min=0, max=4096, help="Units of a layer between; 0: linear.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Decides what is held back.")] = 0,
) -> None:
    """Learn from labels which pictures are wanted: a head for score.heads."""
    from curation.engine.store import Store
    from curation.engine.table import open_table
    from curation.inspect import train_filter as train
    from curation.media.encoders.params import EMBEDDINGS

    loaded = load_recipe(recipe)
    name = encoder or loaded.semantic_encoder
    if name not in loaded.embed.encoders:
        raise RecipeError(
            f"No encoder {name!r} in {recipe}. Valid: {', '.join(loaded.embed.encoders)}."
        )
    table = open_table(Store(store), EMBEDDINGS.table(name))
    learned = train.train_filter(table, train.read_labels(labels), to, hidden, seed)
    out.print(
        f"{learned.pictures:,} labelled pictures, {learned.wanted:,} of them wanted"
        + (f"; {learned.without_vector:,} more have no vector" if learned.without_vector else "")
    )
    out.print(
        f"Of {learned.held_back:,} held back: area under the ROC curve {learned.roc_auc:.3f}, average "
        f"precision {learned.average_precision:.3f}"
    )
    more = ", activation: relu, output: sigmoid" if hidden else ""
    kind = "mlp" if hidden else "linear"
    line = f"good: {{kind: {kind}, encoder: {name}, weights: {to}{more}}}"
    out.print(f"score.heads   {escape(line)}")
