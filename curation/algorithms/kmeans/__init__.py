"""k-means: flat and hierarchical, seeded, with the same bits on any number of shards and threads.

`points` says what k-means asks of its data, and holds arrays; `nearest` finds exact nearest centroids
(back ends in `backends/`, that of torch by `screen` and `bounds`); `lloyd` trains one level;
`hierarchy` stacks levels with resampling; `balance` shares a target out over clusters.

Two facts make the bits equal. Values of points are multiples of 2^-24 and at most 1 in size, as those
of unit vectors in float16 are by themselves, so float64 adds up half a billion of them without
rounding: sums do not depend on order. And a point goes to the centroid of the largest float64 score,
whichever cheaper arithmetic proposed it.
"""
