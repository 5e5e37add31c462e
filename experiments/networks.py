"""What is trained: a small network from scratch, or a linear classifier on the embedded network's features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from build.models.embedded import EmbeddedBackbone

__all__ = ["Small", "embedded_features", "fit"]


class Small(nn.Module):
    """Eight 3 x 3 convolutions in four stages, mean, linear: 0.7 million parameters."""

    def __init__(self, classes: int, width: int = 24) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for stage in range(4):
            after = width << stage
            for stride in (2, 1):
                layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
                before = after
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(before, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (B, K) of (B, 3, H, W) uint8 pixels."""
        x = (pixels.float() - 127) / 64
        return self.head(self.body(x.contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3)))


@torch.inference_mode()
def embedded_features(pixels: Tensor, size: int = 96, batch: int = 32) -> Tensor:
    """Return the embedded network's mean features, (N, 1280) float32, of (N, 3, H, W) uint8 pixels."""
    network = EmbeddedBackbone(size, torch.device("cpu"))
    out = []
    for part in pixels.split(batch):
        scaled = nn.functional.interpolate(part.float(), size=(size, size), mode="bicubic", antialias=True)
        out.append(network((scaled - 127) / 128).features[0].mean(dim=(2, 3)))
    return torch.cat(out).clone()


def fit(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: object,
    *,
    learning_rate: float,
    batch: int,
    passes: int,
    seed: int,
) -> None:
    """Train with AdamW and a one-cycle schedule. Inputs are as many crops as are seen in one pass, times `passes`, in order.

    Args:
        network: Trained in place.
        inputs: (N, ...).
        targets: (N, K).
        loss: Of logits and targets.
        learning_rate: At its highest.
        batch: Crops a step.
        passes: How often the crops are gone through.
        seed: Of their order.
    """
    assert callable(loss)
    optimiser = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=0.02)
    steps = passes * (len(inputs) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps, pct_start=0.2)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    for _ in range(passes):
        order = torch.randperm(len(inputs), generator=generator)
        for rows in order[: len(order) // batch * batch].split(batch):
            optimiser.zero_grad(set_to_none=True)
            loss(network(inputs[rows]), targets[rows]).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            schedule.step()
    network.eval()
