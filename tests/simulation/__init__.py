"""The store under simulated processes, delays and faults: see `world`."""
