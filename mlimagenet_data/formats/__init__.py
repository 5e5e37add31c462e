"""Annotations in forms that other tools read: one module each."""
