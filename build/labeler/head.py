"""The labeler: the head that names regions from their pooled features; a linear classifier, an MLP, or their sum."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from build.labeler.originals import PRIOR, OriginalTrust
from mlimagenet_data.errors import StateError

__all__ = ["Labeler", "one_thread"]

_MOST_VECTORS = 32768  # classified at once


@contextmanager
def one_thread() -> Iterator[int]:
    """Keep every PyTorch operation on one thread while the block runs; yield how many threads they had."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


class Labeler(nn.Module):
    """A classifier of pooled features.

    Args:
        dimension: D, the number of features.
        classes: K, the number of classes.
        linear: Whether to include a linear classifier, initialised with zeros.
        hidden: Widths of the MLP's hidden layers, each with dropout before and GELU after it; empty for no MLP. Beside a
            linear classifier, the MLP's last layer starts at zero, so that the sum starts as the linear classifier.
        dropout: Rate of this dropout.

    Attributes:
        temperature: Divisor of the logits that calibrates the probabilities; 1 until it is fitted.
        trust: How far original labels are trusted; PRIOR until it is fitted.
    """

    def __init__(
        self, dimension: int, classes: int, *, linear: bool = True, hidden: tuple[int, ...] = (), dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not linear and not hidden:
            raise ValueError("a labeler needs a linear classifier or hidden layers")
        self.config: dict[str, Any] = {
            "dimension": dimension, "classes": classes, "linear": linear, "hidden": list(hidden), "dropout": dropout,
        }  # fmt: skip
        self.temperature, self.trust = 1.0, PRIOR
        self.linear = nn.Linear(dimension, classes) if linear else None
        self.mlp = _mlp((dimension, *hidden), classes, dropout) if hidden else None
        zeros = self.linear if self.mlp is None else self.mlp[-1] if linear else None
        for parameter in [*(self.linear.parameters() if self.linear else ()), *(zeros.parameters() if zeros else ())]:
            nn.init.zeros_(parameter)

    @classmethod
    def of_classifier(
        cls,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],
        *,
        hidden: tuple[int, ...] = (),
        dropout: float = 0.0,
    ) -> Labeler:
        """Return a labeler that starts as a linear classifier with weight (K, D) and bias (K,)."""
        out = cls(weight.shape[1], weight.shape[0], hidden=hidden, dropout=dropout)
        assert out.linear is not None
        with torch.no_grad():
            out.linear.weight.copy_(torch.from_numpy(np.array(weight)))
            out.linear.bias.copy_(torch.from_numpy(np.array(bias)))
        return out

    @property
    def dimension(self) -> int:
        """D, the number of features."""
        return int(self.config["dimension"])

    @property
    def classes(self) -> int:
        """K, the number of classes."""
        return int(self.config["classes"])

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (n, K) of features (n, D), before the division by the temperature.

        Of features (n, S, D), each of S patches is classified, and their logits are averaged; patches of NaN are left out.
        """
        if features.ndim == 2:
            return self._classify(features)
        known = ~features[..., :1].isnan()
        logits = self._classify(features.nan_to_num(0)) * known
        return logits.sum(dim=1) / known.sum(dim=1).clamp_min(1)

    def _classify(self, features: Tensor) -> Tensor:
        parts = [part(features) for part in (self.linear, self.mlp) if part is not None]
        return torch.stack(parts).sum(dim=0) if len(parts) > 1 else parts[0]

    @torch.inference_mode()
    def logits(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return (n, K) calibrated logits of (n, D) or (n, S, D) features."""
        self.eval()
        device, out = next(self.parameters()).device, []
        at_once = _MOST_VECTORS if features.ndim == 2 else max(1, _MOST_VECTORS // features.shape[1])
        for start in range(0, max(1, len(features)), at_once):
            part = torch.from_numpy(features[start : start + at_once].astype(np.float32)).to(device)
            out.append(self(part).cpu() / self.temperature)
        return np.asarray(torch.cat(out).numpy())

    def confusable(self, least: float) -> NDArray[np.bool_]:
        """Return (K, K) bool: the pairs of classes whose mean-centred weights have a cosine of at least `least`."""
        last: Any = self.linear if self.linear is not None else self.mlp[-1] if self.mlp is not None else None
        weight = last.weight.detach().cpu().numpy()
        centred = weight - weight.mean(axis=0)
        unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
        return np.asarray((unit @ unit.T >= least) | np.eye(len(unit), dtype=bool))

    def save(self, path: Path) -> None:
        """Write a safetensors file with the configuration in its metadata."""
        tensors = {name: value.cpu().contiguous() for name, value in self.state_dict().items()}
        facts = {**self.config, "temperature": self.temperature, "trust": asdict(self.trust)}
        save_file(tensors, path, metadata={"labeler": json.dumps(facts)})

    @classmethod
    def load(cls, path: Path) -> Labeler:
        """Read a safetensors file that `save` wrote.

        Raises:
            StateError: If the file is not a labeler.
        """
        try:
            with safe_open(path, framework="pt") as file:
                config = json.loads((file.metadata() or {})["labeler"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            temperature, hidden = float(config.pop("temperature")), tuple(config.pop("hidden"))
            trust = OriginalTrust(**config.pop("trust"))
            out = cls(**config, hidden=hidden)
            out.load_state_dict(tensors)
        except (SafetensorError, OSError, LookupError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            raise StateError(f"{path}: damaged: not a labeler: {error}; run `--stage labeler` again") from error
        out.temperature, out.trust = temperature, trust
        return out


def _mlp(widths: tuple[int, ...], classes: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Dropout(dropout), nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
