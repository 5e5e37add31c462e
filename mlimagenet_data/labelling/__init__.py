"""From a view and an image's annotations to the view's labels and targets.

Imports annotations and views. Datasets, losses and the viewer build on it."""
