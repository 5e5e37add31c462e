"""Controlled experiments: do labels that follow the crop help? Run from the checkout; see docs/experiments.md."""
