"""What a fetch consists of: its units, which of them must wait for each other, and their progress.

A run that has nothing to fetch reads this module alone, so it imports no client and no decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.algorithms.components.union_find import UnionFind
from curation.engine.context import Context
from curation.engine.table import Table
from curation.engine.units import Chain, Unit
from curation.errors import Detail, RecipeError
from curation.media.web.urls import url_rules
from curation.stages.fetch.packages import check_packages
from curation.stages.fetch.params import FaceParams, FetchStep
from curation.stages.fetch.progress import FetchProgress
from curation.stages.fetch.reuse import EarlierImages, EarlierVersion, earlier_images
from curation.store.store import Store

_UNGROUPED = -1
"""The phase of lists that are not grouped by host; those of groups are their bits, from 0 on."""


@dataclass(frozen=True)
class Prepared:
    """What the driver has read for a fragment. No memo depends on it.

    Attributes:
        earlier: images of an earlier run that are reused.
        faces: which faces are blurred, with the checksum of the detector's weights.
    """

    earlier: EarlierImages
    faces: FaceParams
    content: None = None


def units(pairs: Table, *, params: FetchStep, context: Context) -> dict[str, dict[str, Any]]:
    """Return the arguments of `fetch` for each fragment.

    Raises:
        RecipeError: a package that reads pictures as the recipe says is not installed, or none of the
            image files that a source names is there.
    """
    rules, faces = url_rules(params.redirects, context), params.faces
    check_packages(params)
    if faces.weights is not None:
        from curation.stages.fetch.faces import with_checksum

        faces = with_checksum(faces)
    has_pixels = params.pixels == "fetch"
    if has_pixels:
        _check_files_are_there(pairs)
    earlier = earlier_images(params, rules, pairs, context) if has_pixels else EarlierVersion()
    return {
        name: {
            "pairs": fragment,
            "rules": rules,
            "prepared": Prepared(earlier.of(name), faces),
        }
        for name, fragment in pairs.fragments.items()
    }


def _check_files_are_there(pairs: Table) -> None:
    absent = pairs.manifest.stats.get("absent_files", {})
    if absent:
        raise RecipeError(
            *(
                Detail(
                    f"none of the {of['files']:,} image files that its rows name is there, such as "
                    f"{of['example']}",
                    f"Source {name!r}",
                    fix="Set `root` of the source to the folder of the images, or put them there, and "
                    "run the recipe again",
                )
                for name, of in absent.items()
            )
        )


def progress(store: Store, units: Sequence[Unit]) -> FetchProgress:
    """Return a function that describes the progress of some units in one line."""
    return FetchProgress(store, units)


def chains(pairs: Table) -> dict[str, Chain]:
    """Return the fragments that may have hosts in common; they are fetched one after the other.

    Two fragments of groups with the same number of buckets have the same hosts (same bucket) or no host
    in common. Groups with different numbers of buckets are fetched in separate phases. Lists that name
    files, too, are not grouped: their fragments have a phase of their own.
    """
    stats = {name: fragment.record.stats for name, fragment in pairs.fragments.items()}
    buckets = {name: of["hosts"] for name, of in stats.items() if "hosts" in of}
    remote = {name: of["remote"] for name, of in stats.items() if "remote" in of}
    grouped = {name: Chain(place[0], str(place[1])) for name, place in buckets.items()}
    return grouped | _chains_by_hosts(remote)


def _chains_by_hosts(hosts_of: Mapping[str, Sequence[int]]) -> dict[str, Chain]:
    """Return the chains of fragments by their hosts: those with a host in common are one chain.

    Args:
        hosts_of: hashes of the hosts of each fragment; none where they are not known.
    """
    if not hosts_of:
        return {}
    if not all(hosts_of.values()):
        return {name: Chain(_UNGROUPED, "all") for name in hosts_of}
    counts = [len(of_fragment) for of_fragment in hosts_of.values()]
    listed = np.concatenate([np.array(of_fragment) for of_fragment in hosts_of.values()])
    hosts, numbers = np.unique(listed, return_inverse=True)
    firsts = numbers[np.cumsum([0, *counts[:-1]])]
    components = UnionFind(len(hosts))
    components.union(np.repeat(firsts, counts), numbers)
    names = hosts[components.labels()[firsts]].tolist()
    return {f: Chain(_UNGROUPED, str(name)) for f, name in zip(hosts_of, names, strict=True)}
