"""Evaluation: sets of images with all their valid classes, networks' predictions on them, and what these are worth."""
