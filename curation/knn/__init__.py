"""The one nearest-neighbour join: rows (query, base image, similarity, rank).

`exact` and `screened` have the kernels, `ivf` the inverted lists, `choice` which pays,
`join` has the two plans over fragments: few queries are sent to every shard of the base and the best
merged; a self-join takes one fragment of queries at a time past all of the base.
"""
