"""Train a network on multi-label ImageNet with labels that follow every crop. One file, to be read and changed.

    python examples/train.py path/to/imagenet --annotations mlimagenet --model resnet50 --epochs 90
    torchrun --nproc-per-node 8 examples/train.py path/to/imagenet --annotations mlimagenet --batch-size 128
    python examples/train.py path/to/imagenet ... --resume run/checkpoint.pt      goes on where that run stopped

The model is timm's or torchvision's, by name. The loss is binary cross-entropy over the classes whose presence in the crop is
decided (--loss bce), or timm's asymmetric loss (--loss asl, undecided classes count as absent). On CUDA the forward runs in
bfloat16 (--precision); on a CPU everything is float32.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from torchvision.transforms import v2

from mlimagenet_data import MultiLabelImageNet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="the ImageNet folder, with train/ (and val/ for --val-split)")
    parser.add_argument(
        "--annotations", help="built dataset's folder or Hub id (default: as MultiLabelImageNet finds it)"
    )
    parser.add_argument(
        "--val-split", default="", help="annotated split to evaluate on after each epoch (default: none)"
    )
    parser.add_argument(
        "--model", default="resnet50", help="name of a timm model, or of a torchvision one as torchvision/NAME"
    )
    parser.add_argument("--loss", choices=["bce", "asl"], default="bce")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--steps", type=int, default=0, help="stop an epoch after so many steps (default: 0, all)")
    parser.add_argument("--batch-size", type=int, default=128, help="images a process")
    parser.add_argument("--lr", type=float, default=1e-3, help="AdamW's peak learning rate")
    parser.add_argument("--warmup", type=float, default=0.05, help="share of all steps with a rising learning rate")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=["bf16", "fp16", "fp32"], default="bf16", help="of the forward on CUDA")
    parser.add_argument("--out", type=Path, default=Path("run"), help="folder of the checkpoint")
    parser.add_argument("--resume", type=Path, help="checkpoint to go on from")
    return parser.parse_args()


def make_model(name: str, classes: int) -> nn.Module:
    """Make a network with random weights."""
    if name.startswith("torchvision/"):
        from torchvision import models

        return models.get_model(name.partition("/")[2], weights=None, num_classes=classes)
    import timm

    return timm.create_model(name, num_classes=classes)


def make_loss(name: str):
    """Return a function of logits (B, K) and targets (B, K) in {0, 1, -1}; -1 marks undecided classes."""
    if name == "asl":
        from timm.loss import AsymmetricLossMultiLabel

        loss = AsymmetricLossMultiLabel()
        return lambda logits, targets: loss(logits, targets.clamp(min=0))

    def bce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        each = nn.functional.binary_cross_entropy_with_logits(logits.float(), targets.clamp(min=0), reduction="none")
        decided = targets >= 0
        return (each * decided).sum() / decided.sum() * targets.shape[1]  # summed over classes, averaged over images

    return bce


def make_transforms(size: int):
    """Return the transforms for training and for evaluation."""
    last = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    train = v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), *last])
    return train, v2.Compose([v2.Resize(size * 8 // 7), v2.CenterCrop(size), *last])


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """Return the factor of the peak learning rate: a linear rise, then a cosine to zero."""
    rise = max(1, round(warmup * steps))
    return (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def mean_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean over classes with a positive of the exact average precision; undecided (-1) entries are left out."""
    out = []
    for k in range(scores.shape[1]):
        decided = targets[:, k] >= 0
        hits = (targets[decided, k] == 1)[np.argsort(-scores[decided, k], kind="stable")]
        if hits.any():
            out.append(float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean()))
    return float(np.mean(out)) if out else float("nan")


@torch.inference_mode()
def evaluate(model: nn.Module, loader: DataLoader, device: torch.device) -> float:
    """Return the mAP on a split (on the main process, over all its images)."""
    model.eval()
    pairs = [(model(images.to(device)).sigmoid().float().cpu(), targets) for images, targets in loader]
    return mean_average_precision(torch.cat([s for s, _ in pairs]).numpy(), torch.cat([t for _, t in pairs]).numpy())


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch; DataLoader workers are seeded from torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def save(path: Path, **state) -> None:
    """Write a checkpoint under a temporary name, then rename it: a killed run leaves the last whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def main() -> None:
    """Train."""
    args = parse()
    distributed = "RANK" in os.environ
    if distributed:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    seed_everything(args.seed)

    train_transform, val_transform = make_transforms(args.image_size)
    target = "ignore" if args.loss == "bce" else "multi_hot"
    dataset = MultiLabelImageNet(args.root, train_transform, annotations=args.annotations, target=target)
    sampler = DistributedSampler(dataset, seed=args.seed) if distributed else None
    generator = torch.Generator()
    loader = DataLoader(dataset, args.batch_size, sampler=sampler, shuffle=sampler is None, num_workers=args.workers,
                        generator=generator, pin_memory=device.type == "cuda",
                        drop_last=len(dataset) >= args.batch_size)  # fmt: skip
    val = None
    if args.val_split and rank == 0:
        val_set = MultiLabelImageNet(
            args.root, val_transform, split=args.val_split, annotations=args.annotations, target="ignore"
        )
        val = DataLoader(val_set, args.batch_size, num_workers=args.workers)

    model = make_model(args.model, len(dataset.classes)).to(device)
    trained = DistributedDataParallel(model) if distributed else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    epoch_steps = min(len(loader), args.steps or len(loader))
    steps = args.epochs * epoch_steps
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, steps, args.warmup))
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda" and args.precision == "fp16")
    loss_function = make_loss(args.loss)
    first = 0
    if args.resume:
        state = torch.load(args.resume, map_location=device, weights_only=True)
        for name, thing in (("model", model), ("optimizer", optimizer), ("scheduler", scheduler), ("scaler", scaler)):
            thing.load_state_dict(state[name])
        first = state["epoch"] + 1

    precision = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[args.precision]
    for epoch in range(first, args.epochs):
        # every epoch is seeded by its number, so that a resumed run draws what an uninterrupted one draws
        seed_everything(args.seed + 1000 * epoch + rank)
        generator.manual_seed(args.seed + 1000 * epoch + rank)
        if sampler is not None:
            sampler.set_epoch(epoch)
        trained.train()
        start, total, seen = time.perf_counter(), 0.0, 0
        for _, batch in zip(range(epoch_steps), loader, strict=False):
            images, targets = (tensor.to(device, non_blocking=True) for tensor in batch)
            with torch.autocast(device.type, precision, enabled=device.type == "cuda" and args.precision != "fp32"):
                logits = trained(images)
            loss = loss_function(logits, targets)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            total, seen = total + loss.item() * len(images), seen + len(images)
        if rank == 0:
            speed = seen / (time.perf_counter() - start)
            found = f", mAP {evaluate(model, val, device):.4f}" if val is not None else ""
            print(
                f"epoch {epoch + 1}/{args.epochs}: loss {total / seen:.4f}{found}, {speed:.0f} images/s a process",
                flush=True,
            )
            save(args.out / "checkpoint.pt", model=model.state_dict(), optimizer=optimizer.state_dict(),
                 scheduler=scheduler.state_dict(), scaler=scaler.state_dict(), epoch=epoch)  # fmt: skip
    if distributed:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
