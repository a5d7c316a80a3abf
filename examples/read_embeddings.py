"""Read the embeddings of a run into numpy, and find the nearest neighbours of an image.

    python examples/read_embeddings.py             # the store that small_run.py made

`store.vectors` returns unit vectors, so that a matrix product gives cosines, and the ids of their rows
as the tables have them. For more vectors than fit into memory, `memmap="vectors.npy"` maps them from a
file, and `store.vector_batches` yields parts.
"""

import argparse
from pathlib import Path

import numpy as np

import curation

DEFAULT_STORE = Path("data/examples/store")


def main() -> None:
    """Print the shape of the vectors, and the neighbours of the first image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE)
    parser.add_argument("--encoder", default="semantic", help="its name in the recipe")
    options = parser.parse_args()
    store = curation.open(options.store)
    embeddings = store.vectors(options.encoder)
    count, dim = embeddings.vectors.shape
    print(f"{count} vectors of {dim} numbers, {embeddings.vectors.dtype}")
    vectors = embeddings.vectors.astype(np.float32)
    cosines = vectors @ vectors[0]
    nearest = np.argsort(-cosines, kind="stable")[:5]
    print(f"nearest to {embeddings.image_ids[0]}:")
    for row in nearest:
        print(f"  {embeddings.image_ids[row]}  cosine {cosines[row]:.3f}")
    rows = sum(len(batch.vectors) for batch in store.vector_batches(options.encoder, rows=32))
    print(f"the same {rows} vectors, 32 at a time")


if __name__ == "__main__":
    main()
