"""Descriptions of a published dataset: the card and the Croissant metadata."""
