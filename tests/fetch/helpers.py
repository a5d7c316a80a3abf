"""Runs ingest and fetch on a list of URLs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from curation.media.web.opt_outs.policy import opt_out_policy
from curation.media.web.opt_outs.signals import ROBOTS
from curation.media.web.opt_outs.site import SiteFile, SiteRules, read_site_file
from curation.stages.fetch.params import FetchParams
from tests.fetch.conftest import Web
from tests.ingest.helpers import run, source, table, write

OPEN = {
    "allow_hosts": ["127.0.0.0/8"],
    "retries": 0,
    "timeout_s": 5,
    "contact": "tests@curation.example",
    "per_host": {"concurrency": 64, "per_second": None},
}


def images(
    store: Path,
    *sources: dict[str, Any],
    ingest: dict[str, Any] | None = None,
    **fetch: Any,
) -> list[dict[str, Any]]:
    """The rows of `images`."""
    run(store, *sources, until="fetch", ingest=ingest or {}, fetch=OPEN | fetch)
    rows: list[dict[str, Any]] = table(store, "images").read().to_pylist()
    return rows


def fetched(tmp_path: Path, urls: list[str], **fetch: Any) -> list[dict[str, Any]]:
    """The rows of `images` for some URLs."""
    path = write(tmp_path / "list.parquet", [{"url": u, "caption": "c"} for u in urls])
    return images(tmp_path / "store", source(path), **fetch)


def reason(tmp_path: Path, url: str, **fetch: Any) -> str | None:
    """The reason of a URL without an image, or None."""
    (row,) = fetched(tmp_path, [url], **fetch)
    assert (row["status"] == "ok") == (row["reason"] is None)
    assert (row["image"] is None) == (row["status"] != "ok") == (row["image_id"] is None)
    reason: str | None = row["reason"]
    return reason


def rules_of(robots: bytes, product: str = "curation", **outbound: Any) -> SiteRules:
    """The rules of a site whose robots.txt this is."""
    policy = opt_out_policy(FetchParams(user_agent=product, **outbound))
    file = SiteFile(ROBOTS, "http://h.example/robots.txt")
    return read_site_file(file, robots, SiteRules(), policy, "http://h.example")


def picture(width: int = 60, height: int = 40) -> Image.Image:
    """A smooth image without symmetry."""
    y, x = np.mgrid[0:height, 0:width] / [[[height]], [[width]]]
    return Image.fromarray((np.stack([x, y, 1 - x * y], 2) * 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The image as a file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def shown(row: dict[str, Any]) -> np.ndarray:
    """The stored image as a reader decodes it: int, (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGB"), int)


def served(web: Web, content: bytes) -> str:
    """Serve `content`, and return its URL."""
    from tests.fetch.conftest import answer

    path = f"/{len(web.pages)}"
    web.pages[path] = answer(content)
    return web.url(path)
