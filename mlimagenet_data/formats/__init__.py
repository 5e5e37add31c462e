"""Annotation formats of other tools, one module each."""
