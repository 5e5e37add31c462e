"""Losses for this loader's targets, and those that it is compared with; one module a kind.

Logits are (B, K) and may be of any floating type: what is computed from them is float32 at least. Every loss is summed over
the classes and averaged over the batch, as timm's multi-label losses are (times 1 / K, it is what `BCEWithLogitsLoss` gives).
Nothing in view, or nothing decided, is a loss of zero.
"""
