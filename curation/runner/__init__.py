"""Runs one step: the only place where a stage meets the store."""
