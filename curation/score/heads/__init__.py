"""The kinds of head by name: each turns vectors into one score a picture.

A new kind is a file here and a line below.
"""

HEADS = {
    "linear": "curation.score.heads.linear",
}
