"""Tests of reading a store from Python, by SQL and by `curation why`."""
