"""Labels and targets of a view, computed from the view and its image's annotations.

Imports annotations and views; used by datasets, losses and the viewer."""
