"""Looks at the sources of a recipe, and at the machine, before any work."""
