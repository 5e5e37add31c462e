"""Evaluation: sets of images with all their valid classes, predictions on them, and metrics of these."""
