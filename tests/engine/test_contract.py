"""Contracts are checked at every write, and the Arrow schema follows from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.algorithms.arrays.vectors import vector_array, vector_matrix
from curation.engine.contract import contract
from curation.errors import ContractError


def centroids(**changes: Any) -> pa.RecordBatch:
    columns = {
        "level": pa.array([0, 0], pa.int32()),
        "cluster_id": pa.array([0, 1], pa.int32()),
        "vector": vector_array(np.eye(2, 4, dtype=np.float32)),
        "training_count": pa.array([3, 4], pa.int64()),
        "parent_id": pa.array([0, None], pa.int32()),
    } | changes
    return pa.RecordBatch.from_pydict({k: v for k, v in columns.items() if v is not None})


def test_conform_orders_documents_and_casts() -> None:
    batch = centroids()
    shuffled = batch.select(batch.schema.names[::-1])
    conformed = contract("centroids").conform(shuffled)
    assert conformed.schema.names == [
        "level",
        "cluster_id",
        "vector",
        "training_count",
        "parent_id",
    ]
    assert b"unit length" in conformed.schema.field("vector").metadata[b"doc"]
    widened = centroids(training_count=pa.array([3, 4], pa.int32()))
    assert contract("centroids").conform(widened).schema.field("training_count").type == pa.int64()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"level": None}, "'level' is missing"),
        ({"level": pa.array([0, None], pa.int32())}, "found 1 null"),
        ({"cluster_id": pa.array([-1, 0], pa.int32())}, "minimum is 0"),
        ({"cluster_id": pa.array(["a", "b"])}, "'cluster_id'"),
        ({"vector": pa.array([b"a", b"b"])}, "fixed-size"),
        ({"more": pa.array([1, 2])}, "unknown columns"),
    ],
)
def test_broken_contracts_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        contract("centroids").conform(centroids(**changes))


def test_values_outside_the_contract_are_refused() -> None:
    schema = contract("pairs").arrow_schema()
    row = {"pair_id": "a", "role": "pool", "source": "s", "status": "perhaps"}
    with pytest.raises(ContractError, match="perhaps"):
        contract("pairs").conform(pa.RecordBatch.from_pylist([row], schema=schema))


def test_unknown_table_lists_the_valid_ones() -> None:
    with pytest.raises(ContractError, match="pairs, images"):
        contract("pears")
    assert contract("embeddings.semantic") is contract("embeddings")


def test_vectors_survive_with_nulls_and_slices() -> None:
    vectors = np.arange(12, dtype=np.float16).reshape(4, 3)
    column = vector_array(vectors, np.array([True, False, True, True]))
    assert column.is_valid().to_pylist() == [True, False, True, True]
    np.testing.assert_array_equal(vector_matrix(column.drop_null()), vectors[[0, 2, 3]])
    np.testing.assert_array_equal(vector_matrix(column.slice(2, 2)), vectors[2:])
    chunked = pa.chunked_array([column.slice(2), column.slice(2)])
    np.testing.assert_array_equal(vector_matrix(chunked), vectors[[2, 3, 2, 3]])
    assert vector_matrix(pa.chunked_array([], pa.binary(6))).shape == (0, 3)
