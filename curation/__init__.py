"""Uncurated image–text pairs in, a curated, balanced, deduplicated Parquet dataset out."""

__version__ = "0.1.0"
