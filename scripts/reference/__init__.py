"""Pages of the documentation that are made from the code, so that they cannot go stale.

The site makes them when it is built (scripts/mkdocs_hooks.py). `python -m scripts.reference FOLDER`
writes them into a folder, to look at.
"""
