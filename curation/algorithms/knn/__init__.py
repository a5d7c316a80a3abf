"""Nearest-neighbour joins. Every join gives rows (query, base image, similarity, rank).

Kernels work on arrays: `exact` for exact search, `ivf` for inverted lists, `hamming` for hashes.
`choice` decides by a cost model whether search or a join is exact or approximate.

Joins over fragments follow one of three plans. `streams` lets the pool stream past blocks of queries,
as it lies (`pool`) or in the order of lists (`pool_lists`), and merges the best; `search_plan` counts
its work. `blocks` compares every block with every other, exactly. `cells` compares vectors that share a
cell of a quantiser, and `recall` measures how many neighbours this misses.
"""
