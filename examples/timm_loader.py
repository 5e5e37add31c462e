"""timm's loader, mixing and loss with labels that follow each crop; the comments name the settings that matter.

python examples/timm_loader.py path/to/imagenet --annotations mlimagenet --mix regions
"""

from __future__ import annotations

import argparse


def make_loader(args: argparse.Namespace, **options):
    """Return timm's loader of images (B, 3, H, W) and targets (B, 1000); `options` are `create_loader`'s."""
    from timm.data import create_loader
    from torch.utils.data import default_collate

    from mlimagenet_data import MultiLabelImageNet
    from mlimagenet_data.mixing import RegionCutMix

    # the collate function of older timm releases takes single labels only, so name one
    target, collate = ("view", RegionCutMix()) if args.mix == "regions" else ("multi_hot", default_collate)
    return create_loader(
        MultiLabelImageNet(args.root, annotations=args.annotations, target=target),
        input_size=(3, args.image_size, args.image_size),
        batch_size=args.batch_size,
        is_training=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        collate_fn=collate,
        # The prefetcher erases pixels after the targets were made. Without it, erasing is part of the transform, which
        # the targets follow. So use one or the other.
        use_prefetcher=args.prefetcher,
        re_prob=0.0 if args.prefetcher else 0.25,
        **options,
    )


def train(args: argparse.Namespace) -> None:
    """Train for a few steps and print the loss of each."""
    import timm
    import torch
    from timm.data import Mixup
    from timm.loss import BinaryCrossEntropy

    from mlimagenet_data.mixing import Mixed

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = timm.create_model(args.model, num_classes=1000).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    # timm's Mixup takes single labels by default and would garble these targets; Mixed gives it the images' numbers
    mix = Mixed(Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=args.batch_size))
    loss_of = BinaryCrossEntropy(smoothing=0.0, sum_classes=True)  # targets are a value per class, not a distribution
    loader = make_loader(args, device=device)
    if not len(loader):
        raise SystemExit("fewer images than --batch-size, and timm drops an incomplete batch")
    for step, batch in zip(range(args.steps), loader, strict=False):
        images, targets = (part.to(device) for part in batch)
        if args.mix == "mixup":
            images, targets = mix(images, targets)
        loss = loss_of(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1}: loss {loss.item():.2f}")


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="image folder")
    parser.add_argument("--annotations", help="built dataset (default: found as by MultiLabelImageNet)")
    parser.add_argument("--mix", choices=["none", "mixup", "regions"], default="none",
        help="mixup: timm's Mixup and CutMix; regions: CutMix whose targets follow the pasted box")  # fmt: skip
    parser.add_argument("--prefetcher", action="store_true", help="use timm's prefetcher, and no random erasing")
    parser.add_argument("--model", default="resnet50", help="timm model")
    parser.add_argument("--image-size", type=int, default=224, help="pixels per side")
    parser.add_argument("--batch-size", type=int, default=8, help="images per step")
    parser.add_argument("--workers", type=int, default=2, help="data-loading workers")
    parser.add_argument("--steps", type=int, default=10, help="steps to train")
    args = parser.parse_args()
    if args.mix == "mixup" and args.batch_size % 2:
        parser.error("--mix mixup: --batch-size must be even, because timm's Mixup mixes pairs")
    train(args)


if __name__ == "__main__":
    main()
