"""Presets: named groups of settings. Options on the command line and in the --config file override them."""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS"]

PRESETS: dict[str, dict[str, Any]] = {
    # Backbone and size as in the labeler's scripts of Chen et al., arXiv 2603.05729; the rest is ours (regions grown from
    # the classifier, thresholds, names), so this is not that paper's recipe. DINOv3's weights have their own licence.
    "dinov3": {
        "backbone": "vit_large_patch16_dinov3.lvd1689m", "image_size": 512, "patch_features": "keys", "num_regions": 4,
        "calibrate_tau": 512, "region_features": "backbone", "head": "mlp", "feature_variants": 4,
        "precision": "bf16", "batch_size": 64,
    },
    # Wang et al., arXiv 2301.11320 (CutLER)
    "cutler": {
        "backbone": "vit_base_patch8_224.dino", "image_size": 480, "patch_features": "keys", "num_regions": 3, "tau": 0.15,
        "max_iou": 0.5, "min_area": 0.01, "region_features": "backbone", "precision": "bf16", "batch_size": 32,
    },
    # a backbone with weights under Apache-2.0
    "dinov2": {
        "backbone": "vit_large_patch14_reg4_dinov2.lvd142m", "image_size": 518, "patch_features": "tokens", "num_regions": 4,
        "calibrate_tau": 512, "region_features": "backbone", "precision": "bf16", "batch_size": 64,
    },
}  # fmt: skip
