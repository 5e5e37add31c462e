"""The dataset on disk: schema, packed records, index, store, and what checks, writes, publishes and searches them.

Imports errors, classes, files, images and names only."""
