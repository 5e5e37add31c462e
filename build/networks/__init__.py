"""Frozen networks: backbones, classifiers, and the forward pass over batches of image files."""
