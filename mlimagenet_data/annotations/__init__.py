"""The dataset on disk: schema, packed records, index and store, and tools to check, write, publish and search them.

Imports only errors, classes, files, images and names."""
