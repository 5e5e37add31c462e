"""The networks: backbones that see, and the labeler's head."""
