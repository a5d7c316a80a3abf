"""Nearest-neighbour joins. Every join gives rows (query, base image, similarity, rank).

Kernels work on arrays: `exact` for exact search, `ivf` for inverted lists, `hamming` for hashes.
`choice` decides by a cost model whether search or a join is exact or approximate.

Joins over fragments follow one of three plans. `broadcast` sends few queries to every shard of the base
and merges the best. `blocks` compares every block with every other, exactly. `cells` compares vectors
that share a cell of a quantiser, and `recall` measures how many neighbours this misses.
"""
