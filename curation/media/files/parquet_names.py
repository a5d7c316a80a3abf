"""The names of columns and types of a Parquet file, of which rows become keys and texts."""

from __future__ import annotations

import pyarrow as pa

from curation.media.files.limits import PARQUET_NAME_CHARACTERS, PARQUET_NAMES
from curation.media.files.parquet_footer import TooLargeError
from curation.media.files.parquet_images import plain_type


def check_names(schema: pa.Schema) -> None:
    """Check that rows can repeat the names of columns, of their parts and of their types.

    Raises:
        TooLargeError: one is too long, or all are together.
    """
    waiting, left = list(schema), PARQUET_NAMES
    while waiting:
        field = waiting.pop()
        kind = plain_type(field.type)
        texts = [field.name]
        if pa.types.is_nested(kind):
            waiting += [kind.field(i) for i in range(kind.num_fields)]
        else:
            # As that of a time, which names its zone.
            texts.append(str(kind))
        left -= sum(map(len, texts))
        if left < 0:
            raise TooLargeError(
                f"the names of its columns have more than {PARQUET_NAMES:,} characters"
            )
        if max(map(len, texts)) > PARQUET_NAME_CHARACTERS:
            raise TooLargeError(
                f"the name of a column or type has more than {PARQUET_NAME_CHARACTERS:,} characters"
            )
