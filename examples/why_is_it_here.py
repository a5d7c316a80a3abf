"""Open a dataset with pandas, DuckDB and Polars, and ask why an image is in it.

    python examples/why_is_it_here.py              # the dataset that small_run.py made
    python examples/why_is_it_here.py --store /data/birds

The dataset is a folder of Parquet files, one row per image. `claims` lists every arm that asked for the
image, with the seed, the similarity and the rank; `copies` lists the rows that the image stands for.
"""

import argparse
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl

from curation.engine.table import open_table
from curation.store.store import Store

DEFAULT_STORE = Path("data/examples/store")


def dataset_folder(store: Path) -> Path:
    """Return the folder of the current dataset; `curation path dataset --store DIR --dir` prints it."""
    version = open_table(Store(store), "dataset").manifest.version
    return store / "dataset" / version


def with_pandas(folder: Path) -> str:
    """Print the claims of the image that most arms and seeds claim; return its id."""
    images = pd.read_parquet(folder)
    most_claimed = images.loc[images["weight"].idxmax()]
    print(f"pandas: {len(images)} images. The most claimed is {most_claimed['image_id']}:")
    claims = pd.DataFrame(list(most_claimed["claims"]))
    print(claims[["arm", "strategy", "seed_image_id", "similarity", "rank"]].to_string(index=False))
    return str(most_claimed["image_id"])


def with_duckdb(folder: Path) -> None:
    """Print what each arm claims."""
    print("\nDuckDB: images and mean similarity of each arm")
    query = f"""
        SELECT claim.arm, count(*) AS images, round(avg(claim.similarity), 3) AS similarity
        FROM (SELECT unnest(claims) AS claim FROM '{folder}/*.parquet')
        GROUP BY claim.arm ORDER BY claim.arm
    """
    for arm, images, similarity in duckdb.execute(query).fetchall():
        print(f"  {arm}: {images} images, similarity {similarity}")


def with_polars(folder: Path, image_id: str) -> None:
    """Print the images that stand for copies, and the clusters around one image."""
    images = pl.scan_parquet(f"{folder}/*.parquet")
    copies = (
        images.filter(pl.col("copies").is_not_null())
        .select("image_id", "caption", pl.col("copies").list.len().alias("copies"))
        .sort("copies", "image_id", descending=[True, False])
        .collect()
    )
    print(f"\nPolars: {len(copies)} images stand for copies of theirs")
    print(copies.head(5))
    chosen = images.filter(pl.col("image_id") == image_id).select("cluster_id", "caption").collect()
    print(f"{image_id} lies in cluster {chosen['cluster_id'][0]}: {chosen['caption'][0]}")


def main() -> None:
    """Ask the same dataset with three libraries."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE)
    folder = dataset_folder(parser.parse_args().store)
    print(folder)
    image_id = with_pandas(folder)
    with_duckdb(folder)
    with_polars(folder, image_id)


if __name__ == "__main__":
    main()
