"""The retrieval strategies by name: each says which images an arm claims, in a file of its own.

A new strategy is a file here and a line below. Names only: a recipe is read where numpy may be
missing, so a strategy imports it inside its functions.
"""

STRATEGIES = {
    "as_is": "curation.stages.retrieve.strategies.as_is",
    "sample": "curation.stages.retrieve.strategies.sample",
    "cluster": "curation.stages.retrieve.strategies.cluster",
    "hierarchical": "curation.stages.retrieve.strategies.hierarchical",
}
