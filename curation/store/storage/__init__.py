"""Where a store keeps its files: a local folder, an object store, or another file system of pyarrow."""
