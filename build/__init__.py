"""The pipeline that relabels an image folder without human labels. Run `python -m build.run --help` from the checkout.

This file must exist: without it, PyPI's `build` tool, where installed, would be imported in its place.
"""
