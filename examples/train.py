"""Train a network on multi-label ImageNet with labels that follow every crop. Short, to be read and adapted.

    python examples/train.py path/to/imagenet --annotations mlimagenet --config examples/configs/resnet50.yaml
    torchrun --nproc-per-node 8 examples/train.py path/to/imagenet --annotations mlimagenet --batch-size 128
    python examples/train.py path/to/imagenet ... --resume runs/train/checkpoint.pt      continues that run

    --labels single --loss softmax      the single-label baseline
    --labels image --targets soft --original always     arXiv 2603.05729 ("the paper"): whole image, whatever the crop
    --init runs/train/checkpoint.pt --config examples/configs/finetune.yaml      multi-label fine-tuning of any of these runs
    python examples/train.py path/to/coco --dataset coco --init runs/train/checkpoint.pt --config examples/configs/transfer.yaml

The model is any timm or torchvision model, by name; `mlimagenet eval --model NAME --weights runs/train/checkpoint.pt`
evaluates it. Losses are summed over classes and averaged over images. The forward pass runs in bfloat16 on CUDA
(--precision) and in float32 on a CPU. Modules beside this file: recipe.py (options), targets.py (datasets),
networks.py, objectives.py (losses), trainer.py (the loop), progress.py.
"""

from __future__ import annotations

import os
import sys

from recipe import parse


def main() -> None:
    """Train."""
    args = parse(__doc__)
    if os.environ.get("RANK", "0") == "0":
        print("loading PyTorch and the annotations ...", file=sys.stderr, flush=True)
    from trainer import train  # takes seconds, so only after the options were read

    train(args)


if __name__ == "__main__":
    main()
