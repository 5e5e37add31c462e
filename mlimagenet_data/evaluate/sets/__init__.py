"""Evaluation sets: images with all their valid classes. One module per benchmark."""
