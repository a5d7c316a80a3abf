"""The one nearest-neighbour join: rows (query, base image, similarity, rank).

`exact` and `screened` have the kernels, `ivf` the inverted lists, `hamming` the tables of hashes, and
`choice` says which pays. Over fragments there are three plans: `join` sends few queries to every shard
of the base and merges the best; `blocks` takes every block past every other, exactly; `cells` lets
vectors meet where they share a cell of one quantiser, and `recall` measures what that misses.
"""
