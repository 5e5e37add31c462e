"""Metrics over arrays of scores and targets. Pure NumPy; knows no images and no files."""
