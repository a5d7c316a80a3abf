"""k-means, flat and hierarchical. The result has the same bits for any number of shards and threads.

`points` says what k-means needs of its data, and holds arrays; `sharded` holds data in files. `lloyd`
trains one level, `hierarchy` stacks levels with resampling, `balance` divides a target among clusters.
The back ends in `backends` find the exact nearest centroid of each point.

Two facts make the bits equal:

* Sums do not depend on their order. The values of points are multiples of 2^-24 with an absolute
  value of at most 1, as those of unit vectors in float16 always are. float64 adds up half a billion of
  them without rounding.
* A point belongs to the centroid of the largest float64 score, with ties to the smaller number,
  whichever cheaper arithmetic found the candidates.
"""
