"""The store with several runs and several recipes."""
