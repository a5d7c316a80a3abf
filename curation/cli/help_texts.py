"""Help texts of the options that `curation` and the jobs for spark-submit share."""

from __future__ import annotations

RECIPE = "Path of the recipe, a YAML file."
STORE = "Folder or URI of the store, which holds the tables of runs."
FROM = "Run this stage and those after it."
UNTIL = "Run this stage and those before it."
NO_WAIT = "Stop with an error if another run works on the same stage, instead of waiting for it."
RETRY = (
    "Ask again for rows that failed: `transient`, `all`, or a reason such as `timeout`. It may be "
    "repeated."
)
FORCE = (
    "Compute what the stages write again, though nothing changed. A stopped run with --force starts "
    "again from the beginning."
)
LOG_FORMAT = "Form of what goes to standard error: text, or JSON with one object a line."
