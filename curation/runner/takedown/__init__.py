"""Takes rows down: finds what a tombstone names in a store, and shows that nothing of it is left."""
