"""The labeler: the head that names regions, and its training."""
