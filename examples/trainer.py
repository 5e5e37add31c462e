"""The training loop of train.py: one process of a run, its checkpoints, and what it reports."""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from networks import WithPoints, load_weights, make_model, normalisation
from objectives import Objective
from progress import Progress, duration
from targets import make_dataset, make_transforms
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from torchvision.transforms import v2

from mlimagenet_data.errors import MLImageNetError, OutputError
from mlimagenet_data.evaluate.metrics.arrays import known_mean
from mlimagenet_data.evaluate.metrics.ranking import class_average_precision
from mlimagenet_data.files.atomic import write_atomic
from mlimagenet_data.mixing import Mixed

__all__ = ["Trainer", "learning_rate", "train"]

CHECKPOINT = "checkpoint.pt"


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """Return the learning rate as a fraction of its peak: a linear rise, then a cosine decay to zero."""
    rise = max(1, round(warmup * steps))
    return (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def make_optimizer(args: argparse.Namespace, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer, without weight decay for biases and norms."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": args.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if args.optimizer == "lamb":
        from timm.optim import Lamb

        return Lamb(groups, lr=args.lr, max_grad_norm=math.inf)  # --clip-grad clips instead; timm 1.0.9 refuses None
    if args.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=args.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=args.lr)


def make_mixer(args: argparse.Namespace) -> Callable | None:
    """Return a mixer of a batch's images and targets: MixUp, CutMix, or either at random; None if both are off."""
    kinds = ((v2.MixUp, args.mixup), (v2.CutMix, args.cutmix))
    mixers = [kind(alpha=alpha, num_classes=args.batch_size) for kind, alpha in kinds if alpha]
    return Mixed(v2.RandomChoice(mixers)) if mixers else None


@torch.inference_mode()
def evaluate(model: nn.Module, loader: DataLoader, device: torch.device, *, softmax: bool = False) -> float:
    """Return the mAP over all images of a split, for the classes that have positives; runs on the main process."""
    model.eval()
    scores, targets = [], []
    with Progress("evaluation", len(loader)) as progress:
        for images, batch in loader:
            output = model(images.to(device))
            logits = (output[0] if isinstance(output, tuple) else output).float().cpu()
            scores.append(logits.softmax(dim=1) if softmax else logits.sigmoid())
            targets.append(batch["target"])
            progress.step()
    return known_mean(class_average_precision(torch.cat(scores).numpy(), torch.cat(targets).numpy()))


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch; torch seeds the DataLoader workers."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def save(path: Path, **state) -> None:
    """Write a checkpoint atomically: a killed run leaves the last complete one."""

    def fill(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # given a name, torch would store it
            torch.save(state, file)

    write_atomic(path, fill)


def check_free(path: Path, resumed: Path | None) -> None:
    """Check that the run's checkpoint would replace no other run's.

    Raises:
        OutputError: If the file exists and is not the checkpoint that the run continues.
    """
    if path.exists() and not (resumed and path.samefile(resumed)):
        raise OutputError(f"{path}: already exists; continue that run with --resume {path}, or choose another --out")


class Trainer:
    """One process of a run: its model, data and progress.

    Args:
        args: The script's options.
        rank: Rank of the process.
        device: Device to compute on.
    """

    def __init__(self, args: argparse.Namespace, rank: int, device: torch.device) -> None:
        self.args, self.rank, self.device, self.distributed = args, rank, device, dist.is_initialized()
        if rank == 0:
            check_free(args.out / CHECKPOINT, args.resume)
        seed_everything(args.seed)
        transform, val_transform = make_transforms(
            args.image_size, args.augment, *normalisation(args.model), whole=args.dataset != "imagenet"
        )
        dataset = make_dataset(args, transform, "trainval" if args.dataset == "voc2007" else "train", train=True)
        self.images = len(dataset)
        self.sampler = DistributedSampler(dataset, seed=args.seed) if self.distributed else None
        self.generator = torch.Generator()
        self.loader = DataLoader(dataset, args.batch_size, sampler=self.sampler, shuffle=self.sampler is None,
                                 num_workers=args.workers, generator=self.generator, pin_memory=device.type == "cuda",
                                 drop_last=len(dataset) >= args.batch_size)  # fmt: skip
        self.val = None
        if args.val_split and rank == 0:
            val_set = make_dataset(args, val_transform, args.val_split, train=False)
            self.val = DataLoader(val_set, args.batch_size, num_workers=args.workers)
        self.model = make_model(
            args.model, len(dataset.classes), size=args.image_size, drop_path=args.drop_path, loss=args.loss
        )
        if args.init and (left_out := load_weights(self.model, args.init)) and rank == 0:
            print(f"not loaded from {args.init}: {', '.join(left_out)}", flush=True)
        self.model.to(device)
        ids = [device] if device.type == "cuda" else None
        self.trained = DistributedDataParallel(self.model, device_ids=ids) if self.distributed else self.model
        self.optimizer = make_optimizer(args, self.model)
        self.epoch_steps = min(len(self.loader), args.steps or len(self.loader))
        steps = args.epochs * self.epoch_steps
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate(step, steps, args.warmup)
        )
        # torch.cuda.amp: before torch 2.3
        scaler = torch.amp.GradScaler if hasattr(torch.amp, "GradScaler") else torch.cuda.amp.GradScaler
        self.scaler = scaler(enabled=device.type == "cuda" and args.precision == "fp16")
        self.mixer, self.objective = make_mixer(args), Objective(args, len(dataset))
        self.first = self.resume() if args.resume else 0
        if rank == 0:
            self.objective.open_memory(self.first, first=True)
        self.wait()
        if rank != 0:
            self.objective.open_memory(self.first, first=False)

    def parts(self) -> dict[str, object]:
        """Return the parts whose state a checkpoint holds; `model` is the plain network, as other tools load it."""
        points = {"point": self.model.point} if isinstance(self.model, WithPoints) else {}
        return {"model": getattr(self.model, "network", self.model), **points, "optimizer": self.optimizer,
                "scheduler": self.scheduler, "scaler": self.scaler}  # fmt: skip

    def resume(self) -> int:
        """Load a checkpoint and return the epoch that follows it."""
        state = torch.load(self.args.resume, map_location=self.device, weights_only=True)
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        return state["epoch"] + 1

    def wait(self) -> None:
        """Wait for the other processes."""
        if self.distributed:
            dist.barrier()

    def run(self) -> None:
        """Train the remaining epochs."""
        if self.rank == 0:
            epochs = f"epochs {self.first + 1} to {self.args.epochs} of {self.epoch_steps} steps"
            print(f"{self.args.model}: {self.images} images, {epochs}", file=sys.stderr, flush=True)
        for epoch in range(self.first, self.args.epochs):
            # seed each epoch by its number, so that a resumed run draws the same as an uninterrupted one
            seed_everything(self.args.seed + 1000 * epoch + self.rank)
            self.generator.manual_seed(self.args.seed + 1000 * epoch + self.rank)
            if self.sampler is not None:
                self.sampler.set_epoch(epoch)
            start = time.perf_counter()
            loss, speed = self.train_epoch(epoch)
            self.wait()  # until every process has written its memory of this epoch
            if self.rank == 0:
                self.report(epoch, loss, speed, start)
            self.wait()  # until the checkpoint is saved

    def train_epoch(self, epoch: int) -> tuple[float, float]:
        """Train one epoch; return the mean loss and the images per second."""
        self.trained.train()
        start, total, seen = time.perf_counter(), 0.0, 0
        text = f"epoch {epoch + 1}/{self.args.epochs}"
        with Progress(text, self.epoch_steps, shown=self.rank == 0) as progress:
            for _, (images, targets) in zip(range(self.epoch_steps), self.loader, strict=False):
                total, seen = total + self.train_step(images, targets) * len(images), seen + len(images)
                progress.step(f"loss {total / seen:.4f}")
        return total / seen, seen / (time.perf_counter() - start)

    def train_step(self, pixels: torch.Tensor, targets: dict[str, torch.Tensor]) -> float:
        """Train on one batch; return its loss."""
        on_gpu = self.device.type == "cuda"
        precision = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[self.args.precision]
        images = pixels.to(self.device, non_blocking=True)
        batch = {name: value.to(self.device, non_blocking=True) for name, value in targets.items()}
        if self.mixer is not None:
            images, batch["target"] = self.mixer(images, batch["target"])
        with torch.autocast(self.device.type, precision, enabled=on_gpu and self.args.precision != "fp32"):
            output = self.trained(images)
        loss = self.objective(output, batch)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if self.args.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.args.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        return loss.item()

    def report(self, epoch: int, loss: float, speed: float, start: float) -> None:
        """Evaluate, print a line, save a checkpoint; `start` is the time at which the epoch started."""
        found = ""
        if self.val is not None:
            found = f", mAP {evaluate(self.model, self.val, self.device, softmax=self.args.loss == 'softmax'):.4f}"
        if others := self.args.epochs - epoch - 1:
            rest = f", about {duration(others * (time.perf_counter() - start))} left"
        else:
            rest = ""
        epochs = f"epoch {epoch + 1}/{self.args.epochs}"
        print(f"{epochs}: loss {loss:.4f}{found}, {speed:.0f} images/s per process{rest}", flush=True)
        self.objective.save(self.args.out, epoch)
        save(
            self.args.out / CHECKPOINT,
            epoch=epoch,
            **{name: part.state_dict() for name, part in self.parts().items()},
        )
        self.objective.tidy(self.args.out, epoch)


def train(args: argparse.Namespace) -> None:
    """Train as the options say; torchrun starts one process per device."""
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)  # else each process also takes memory on the first GPU
    if "RANK" in os.environ:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        Trainer(args, rank, device).run()
    except (MLImageNetError, OSError) as error:  # the message needs no traceback
        raise SystemExit(str(error)) from error
    if dist.is_initialized():
        dist.destroy_process_group()
