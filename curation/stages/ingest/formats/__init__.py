"""The readers of sources: one module per format, which yields the rows of one file."""
