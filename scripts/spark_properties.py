"""Prints the settings of a cluster file as properties, for `spark-submit --properties-file`.

    python scripts/spark_properties.py yarn > /tmp/yarn.conf

spark-submit starts the driver before a run reads its cluster file, so what the driver itself needs, its
memory and its encryption, must be there earlier.
"""

from __future__ import annotations

import argparse

from curation.engine.cluster import as_properties, load_cluster, spark_conf


def properties(cluster: str, gpus: bool) -> str:
    """Return the settings of a cluster file as a file of properties.

    Args:
        cluster: name of the cluster, or path of its file.
        gpus: whether executors ask for a GPU, if the cluster has some.
    """
    loaded = load_cluster(cluster)
    settings = spark_conf(loaded, int(gpus))
    master = {"spark.master": loaded.master} if loaded.master else {}
    return as_properties(master | settings)


def main() -> None:
    """Print the properties of a cluster."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cluster", help="a name of conf/clusters, or the path of a YAML file")
    parser.add_argument("--no-gpus", action="store_true", help="executors without GPUs")
    options = parser.parse_args()
    print(properties(options.cluster, not options.no_gpus), end="")


if __name__ == "__main__":
    main()
