"""Vectors as numpy arrays: in memory, memory-mapped, and in batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import curation
from curation.errors import StoreError

from ..ingest.helpers import jpeg, run, source, table, write


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reading")
    rows = [{"image": jpeg(n) if n % 3 else b"no picture", "uid": str(n)} for n in range(30)]
    columns = {"image": "image", "key": "uid"}
    pool = source(write(folder / "pairs.parquet", rows), columns=columns)
    # Batches are padded to their full size.
    embed = {"batch_size": 16, "encoders": {"semantic": {"model": "vit_micro"}}}
    blocks = {"embed": embed, "dedup": {"near": None}}
    run(folder / "store", pool, until="embed", ingest={"rows_per_fragment": 12}, **blocks)
    return folder / "store"


def test_all_ways_to_read_return_the_rows_that_have_a_vector(store: Path, tmp_path: Path) -> None:
    rows = table(store, "embeddings.semantic").read().to_pandas()
    rows = rows[rows["vector"].notna()]
    assert len(rows) == 20
    expected = np.stack([np.frombuffer(v, "<f2") for v in rows["vector"]])
    in_memory = curation.read_embeddings(store, "semantic")
    mapped = curation.read_embeddings(str(store), "semantic", memmap=tmp_path / "v.npy")
    batches = list(curation.embedding_batches(store, "semantic", rows=5))
    assert max(len(b.vectors) for b in batches) <= 5
    assert isinstance(mapped.vectors, np.memmap)
    for embeddings in (in_memory, mapped):
        np.testing.assert_array_equal(embeddings.vectors, expected)
        assert embeddings.pair_ids.tolist() == rows["pair_id"].tolist()
        assert embeddings.image_ids.tolist() == rows["image_id"].tolist()
    np.testing.assert_array_equal(np.concatenate([b.vectors for b in batches]), expected)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), expected)


def test_an_unknown_encoder_is_an_error_that_lists_the_encoders(store: Path) -> None:
    with pytest.raises(StoreError, match=r"has a table 'embeddings\.clip'.*semantic"):
        curation.read_embeddings(store, "clip")
    with pytest.raises(AttributeError, match="no attribute 'embeddings'"):
        _ = curation.embeddings
