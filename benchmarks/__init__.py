"""Measurements beside named peers in the same run. Not part of the package."""
