"""Estimates what a recipe costs before it runs.

`workload` counts the work of each stage, from the counts in the recipe and from assumptions. `rates`
holds what a machine does in a second and what it costs. `calibrate` measures the rates on the user's
machine, each core in a process of `core_rates`. `estimate` multiplies work, rates and prices.
"""
