"""What the metadata of a picture says: whether it may be mined, whose it is, and what a recipe keeps.

Stored images hold none of it. Every reader here is bounded, and gives what it understands of damaged
metadata, since that never costs a picture its row.
"""
