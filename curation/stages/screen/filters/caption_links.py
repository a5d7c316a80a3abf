"""Web addresses, mail addresses and file names in the caption."""

import re

from curation.stages.screen.filters.base import Filter

ENDINGS = "jpe?g|png|gif|webp|bmp|tiff?|svg|avif|heic|psd|html?|php|aspx?|pdf"
LINK = re.compile(
    rf"https?://|\bwww\.|[\w.+-]{{1,64}}@[\w-]{{1,63}}\.\w|[\w)-]\.(?:{ENDINGS})\b", re.IGNORECASE
)

FILTER = Filter(
    doc="Number of web addresses, e-mail addresses and file names in the caption",
    unit="matches",
    type="int32",
    usual="at_most: 0; no published value",
    score=lambda pair: len(LINK.findall(pair.caption or "")),
)
