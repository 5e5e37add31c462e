"""What a view (a crop, or any transformed image) shows of its original: exact geometry, and how transforms are followed.

Imports errors only; knows nothing of annotations."""
