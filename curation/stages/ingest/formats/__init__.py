"""Readers of sources: a module a format, which yields the rows of one file."""
