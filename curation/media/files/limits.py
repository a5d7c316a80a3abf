"""Limits of what is read from files of strangers, before anything is allocated for it.

A reader adds at most READER_BYTES to its process, whatever a file holds; the other limits keep it
there. What exceeds one is refused with a reason, and what stands around it is read.
"""

from __future__ import annotations

MIB = 1 << 20
READER_BYTES = 256 * MIB
"""Memory that reading one file may add to a process, in bytes. The limits below add up to less."""

BATCH_BYTES = 16 * MIB
"""Text of the rows that are held together, in bytes: a batch is cut there, however few its rows are."""
LINE_BYTES = 4 * MIB
"""Largest line of a list, in bytes."""
ENDLESS_BYTES = 256 * MIB
"""Line after which a list is not read further, in bytes: a sparse file may have terabytes of zeros."""
RECORD_CHARACTERS = 4 * MIB
"""Largest row of a CSV or TSV file, in characters: fields in quotes may hold line ends."""
FIELD_CHARACTERS = 128 * 1024
"""Largest value that is mapped to a field of a row, in characters."""
METADATA_CHARACTERS = 2 * MIB
"""Largest metadata of a row as JSON, in characters."""
TEXT_FILE_BYTES = 64 * 1024
"""Largest text beside a picture, in bytes: its caption."""
JSON_FILE_BYTES = MIB
"""Largest JSON beside a picture, in bytes."""
FOLDER_DEPTH = 100
"""Folders within each other."""
PATH_BYTES = 4096
"""Longest path of a file, or name of an archive's member, in bytes."""
COLUMNS = 2000
"""Columns of a table."""
BOXES = 1000
"""Face boxes of a picture."""
JSON_VALUES = 500_000
"""Values of one JSON text, by its commas, colons and brackets: an empty object takes 64 bytes."""
REREAD_RATIO = 16
"""How many times over a file is read again after rows that cannot be read, by its size."""
HEAD_LINES = 200_000
"""Lines of a file that decide how it is written."""

EXPANSION_BYTES = 256 * MIB
"""What any file may expand to, in bytes: by its compression, or in the text of its rows."""
EXPANSION_RATIO = 200
"""How many times its size a larger file may expand to. Text expands 3 to 20 times."""
DECOMPRESSOR_BYTES = 128 * MIB
"""Memory of a decompressor, in bytes: xz and zstd files name a window, and `xz -9` takes 65 MiB."""
VALUES_RATIO = 8
"""How many times as much memory the nested values of a Parquet file may take in Python, all of them one
after the other: they take time even where a row keeps none of them."""
ROWS = 1_000_000
"""Rows that any file may have; a larger file may have as many more as it has bytes."""
PICTURES = 1_000_000
"""Pictures within one file that have a key or a URL: what tells them apart is held in memory."""
LINES_OF_ROW = 4
"""How many times as many lines a text file may have: rows may have several, and some are empty."""

MEMBERS = 200_000
"""Members of an archive."""
MEMBER_NAME_BYTES = 16 * MIB
"""Names of all members of an archive together, in bytes of memory: a character may take four."""
MEMBER_TEXTS_BYTES = 4096 * MIB
"""Texts of all members of an archive, in bytes: they are in a temporary file until it has been read."""
PADDING_BYTES = MIB
"""Zeros after the last member of an archive, in bytes: programs fill the last record up with them."""
MEMBER_HEADER_BYTES = 64 * 1024
"""Largest extended header of a member (GNU long names, pax), in bytes."""
MEMBER_HEADERS = 8
"""Extended headers before one member."""

WARC_HEADER_BYTES = 64 * 1024
"""Largest header of a WARC record, in bytes."""
WAT_RECORD_BYTES = 16 * MIB
"""Largest record of a WAT file, in bytes."""
WAT_PAGE_IMAGES = 10_000
"""Images of one page."""
WAT_URL_CHARACTERS = 8 * 1024
"""Longest URL of a page, in characters: each of its images repeats it."""

PARQUET_BYTES = 208 * MIB
"""Pages, dictionaries and values that Arrow holds while it reads a row group, in bytes."""
PARQUET_FOOTER_BYTES = 8 * MIB
"""Largest footer of a Parquet file, in bytes."""
PARQUET_FOOTER_STRUCTS = 150_000
"""Structures in a footer: Arrow takes up to a kilobyte for one of three bytes."""
PARQUET_DEPTH = 32
"""Nesting of a Parquet column, and of the structures of a footer."""
PARQUET_PAGES = 200_000
"""Pages of one column in a row group."""
PARQUET_PAGE_VALUES = 1 << 26
"""Values of one page."""
PARQUET_ENTRIES = 2_000_000
"""Entries of a dictionary whose sizes are looked at."""
PARQUET_NAMES = MIB
"""Characters of the names and types of all columns: rows repeat the names."""
PARQUET_NAME_CHARACTERS = 4096
"""Longest name of a column, of a part of one, or of a type, in characters."""
PARQUET_LEAST_PAGE_BYTES = 16
"""Smallest page with its header, in bytes. Columns that name the same pages again have more of them."""
PARQUET_REREAD_RATIO = 4
"""How many times over all pages that fit into a file are read."""
PARQUET_PAGE_HEADER_BYTES = MIB
"""Largest header of a page, in bytes."""
