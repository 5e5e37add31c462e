"""What describes a published dataset: the card and its Croissant metadata."""
