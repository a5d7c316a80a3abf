"""Self-tests of a finished run: copies are planted, and looked for as the recipe says."""
