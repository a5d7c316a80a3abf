"""Searches the current tables of a store. Their manifests say which encoder made the vectors."""

from __future__ import annotations

from curation.algorithms.knn.params import SearchParams
from curation.engine.table import Table, refuse_withheld
from curation.errors import Detail, StoreError
from curation.inspect.current import CurrentTables
from curation.inspect.search import ImageSearch, SearchSettings
from curation.media.encoders.params import EMBEDDINGS
from curation.media.encoders.recorded import recorded_spec

CHOOSERS = ("matches", "codebooks", "assignments", "centroids", "eligible")
"""Tables whose stage reads the vectors of one encoder and records its name, the first that is there."""
SEARCHED = ("images", "pairs", "codebooks", "lists", "claims")


def search_current(tables: CurrentTables) -> ImageSearch:
    """Return a search of the current tables, with the encoder of matches or of clusters.

    Args:
        tables: of the recipe.

    Raises:
        StoreError: it has no vectors yet, or tables do not belong together or hold what was taken down.
    """
    manifests = {name: tables[name].manifest for name in CHOOSERS if name in tables}
    encoder = next((m.params["encoder"] for m in manifests.values() if "encoder" in m.params), None)
    encoder = encoder or _only_encoder(tables)
    vectors = tables[EMBEDDINGS.table(encoder)]
    fetched = tables["images"].manifest.params
    search = manifests["matches"].params.get("search", {}) if "matches" in manifests else {}
    known = {name: value for name, value in search.items() if name in SearchParams.model_fields}
    settings = SearchSettings(
        encoder,
        recorded_spec(
            vectors.manifest.params.get("encoders", {}).get(encoder),
            vectors.manifest.stats.get("encoder"),
        ),
        SearchParams(**known),
        vectors.manifest.params.get("batch_size", 64),
        fetched["max_pixels"],
        tuple(fetched["formats"]),
    )
    searched: dict[str, Table] = {name: tables[name] for name in SEARCHED if name in tables}
    searched[EMBEDDINGS.table(encoder)] = vectors
    tables.check_together("search", searched)
    refuse_withheld(searched)
    return ImageSearch(searched, settings)


def _only_encoder(tables: CurrentTables) -> str:
    encoders = list(EMBEDDINGS.members(dict.fromkeys(tables)))
    if len(encoders) == 1:
        return encoders[0]
    message = (
        f"{tables.store.uri} has vectors of {', '.join(encoders) or 'no encoder'}, and no stage that "
        "chooses one has run"
    )
    fix = "Run the recipe further (curation run RECIPE --store DIR)"
    raise StoreError(Detail(message, "embeddings", encoders, fix=fix))
