"""Comparison of a relabelled dataset with people's labels, boxes or masks, beside the single original label."""
