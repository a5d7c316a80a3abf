"""Writes a first recipe for files that somebody has: commented, and ready to run."""
