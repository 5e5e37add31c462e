"""Views: exact geometry of the part of an original that a transformed image shows, tracked through transforms.

Imports only errors; independent of annotations."""
