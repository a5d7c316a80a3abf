"""Removes what no kept run needs, and makes the tables of an earlier run the latest again."""
