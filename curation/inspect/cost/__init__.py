"""What a recipe would cost before it runs.

`workload` says what each stage of this version has to do, from counts in the recipe and assumptions;
`rates` holds what a machine does in a second and what it costs; `calibrate` measures that on the
user's own machine; `estimate` multiplies.
"""
