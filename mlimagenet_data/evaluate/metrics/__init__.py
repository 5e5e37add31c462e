"""Metrics over arrays of scores and targets. Pure NumPy, independent of images and files."""
