"""Presets: named groups of settings. Options on the command line and in the --config file override them."""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS"]

PRESETS: dict[str, dict[str, Any]] = {
    # Chen et al., arXiv 2603.05729, as their scripts default; docs/paper.md compares all settings
    "paper": {
        "backbone": "vit_giant_patch14_reg4_dinov2.lvd142m", "image_size": 896, "patch_features": "keys", "tau": 0.75,
        "maskcut": "original", "num_regions": 4, "min_area": 0.01, "max_iou": 0.5, "peaks": 0, "grow_original": False,
        "scan_size": 0, "max_upscale": 0.0, "classifier": "none", "region_features": "vit_large_patch16_dinov3.lvd1689m",
        "label_map_size": 512,
        "classify_first": True, "alignment": 0.75, "align_with": "any", "head": "mlp", "hidden_size": 1024, "dropout": 0.1,
        "feature_variants": 2, "augment": True, "patch_dropout": 0.2, "epochs": 100, "patience": 100, "held_out": 0.0,
        "class_balance": 0.0, "learning_rate": 1e-4, "train_batch_size": 256, "label_rule": "regions",
        "label_threshold": 0.5, "top_k": 5, "confusion": 1.0, "located": 0.0, "merge_iou": 2.0, "reject": 0.0,
        "precision": "bf16", "batch_size": 16,
    },
    # regions and names from one DINOv3 network, with our own additions; DINOv3's weights have their own licence
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
