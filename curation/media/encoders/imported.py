"""`imported`: vectors that the user brings. They are read from files, and nothing can be embedded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from curation.engine.params_base import fingerprint_params
from curation.errors import RecipeError
from curation.media.encoders.params import EncoderSpec
from curation.media.vectors.ids import IdIndex, build_index, read_ids
from curation.media.vectors.params import VectorIds
from curation.media.vectors.vector_set import VectorSet
from curation.store.digest import digest, file_sha256

ARCHITECTURE = "imported"
"""What stands in the identity of imported vectors for the name of a model."""


def ids_of(spec: EncoderSpec) -> VectorIds:
    """Return which row each vector belongs to; a spec with an import has it."""
    assert spec.ids is not None
    return spec.ids


def of_source(paths: str | dict[str, str] | None, source: str) -> str | None:
    """Return the path of a source, where paths are one for all, or by source; None for none."""
    return paths.get(source) if isinstance(paths, dict) else paths


def read_index(spec: EncoderSpec, vectors: VectorSet, ids_file: str | None) -> IdIndex:
    """Return the index of the ids of vectors.

    Raises:
        RecipeError: they cannot be read, one is repeated, or there are more or fewer than vectors.
        StoreError: a Parquet file is damaged.
    """
    ids = ids_of(spec)
    return build_index(read_ids(vectors, ids_file, ids.column, ids.join), vectors)


def one_dim(sets: Iterable[VectorSet]) -> int:
    """Return the dimension of all vectors.

    Raises:
        RecipeError: those of two sources differ.
    """
    dims = {vectors.path: vectors.dim for vectors in sets}
    if len(set(dims.values())) > 1:
        listed = ", ".join(f"{path!r} {dim}" for path, dim in dims.items())
        raise RecipeError(
            f"vectors of one encoder have one dimension; these have: {listed}",
            fix="Write vectors of one dimension, or make two encoders of them",
        )
    return next(iter(dims.values()), 0)


def content_of(spec: EncoderSpec) -> dict[str, Any]:
    """Return a spec with the digests of its files in place of their paths."""
    content: dict[str, Any] = fingerprint_params(spec, file_sha256)
    return content


def identity_of(content: Mapping[str, Any], dim: int) -> dict[str, Any]:
    """Return the identity of imported vectors: the content of their files, and the column in them.

    Args:
        content: what `content_of` returned.
        dim: dimension of the vectors.
    """
    files, column = content["import"], content.get("column")
    return {
        "architecture": ARCHITECTURE,
        "weights_sha256": files if isinstance(files, str) else digest(files, 64),
        "dim": dim,
        "preprocessing": {} if column is None else {"column": column},
    }


def open_sets(spec: EncoderSpec) -> dict[str, VectorSet]:
    """Return the vectors by source; under the empty name, if one path is for all sources.

    Raises:
        RecipeError: they cannot be read, or differ in their dimension.
    """
    paths = spec.vectors if isinstance(spec.vectors, dict) else {"": str(spec.vectors)}
    sets = {source: VectorSet(path, spec.column) for source, path in paths.items()}
    one_dim(sets.values())
    return sets


def check_vectors(spec: EncoderSpec) -> tuple[int, dict[str, Any]]:
    """Read what a run needs of imported vectors before it does anything else.

    Returns:
        Their dimension and identity.

    Raises:
        RecipeError: they, or their ids, cannot be used.
        StoreError: a Parquet file is damaged.
    """
    sets = open_sets(spec)
    if ids_of(spec).join != "rows":
        for source, vectors in sets.items():
            read_index(spec, vectors, of_source(ids_of(spec).file, source))
    dim = one_dim(sets.values())
    return dim, identity_of(content_of(spec), dim)


def load(name: str, spec: EncoderSpec) -> NoReturn:
    """Refuse to load an encoder: there is none.

    Raises:
        RecipeError: always.
    """
    raise RecipeError(
        "These vectors are imported, and no model of theirs is known here, so nothing can be embedded "
        "with it",
        fix="Give vectors instead, or name an encoder with a `model`",
    )


skeleton = load
