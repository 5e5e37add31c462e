"""Targets of a batch of crops in PyTorch, on any device: the vectorised form of `mlimagenet_data.labelling.policy`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from mlimagenet_data.annotations.records import NO_SIZE, Record
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.labelling.policy import ROUNDING, LabelPolicy
from mlimagenet_data.labelling.targets import regions_by_class, regions_of

__all__ = ["batch_targets"]

_KINDS = ("multi_hot", "soft", "ignore", "pooled")


@dataclass
class _Flat:
    """The batch's annotations as flat lists: regions, labels (classes of images), and pairs of both."""

    labels: list[tuple[int, int, float]] = field(default_factory=list)  # (image, class, score in the image)
    unlocated: list[bool] = field(default_factory=list)  # per label
    pairs: list[tuple[int, int, float]] = field(default_factory=list)  # (label, region, score)
    evidence: list[tuple[int, int, int, float]] = field(default_factory=list)  # (image, class, region, score)
    regions: int = 0

    def add(self, image: int, record: Record, policy: LabelPolicy) -> None:
        seen_in = regions_by_class(record)
        for index, score in policy.counted(record.labels, record.label):
            if policy.original == "if_located" and index == record.label and index not in seen_in:
                continue
            where = regions_of(seen_in[index], index, record.label, policy) if index in seen_in else {}
            self.pairs += [(len(self.labels), self.regions + k, s) for k, s in where.items()]
            self.labels.append((image, index, score))
            self.unlocated.append(not where)
        for index, where in seen_in.items():
            self.evidence += [(image, index, self.regions + k, s) for k, s in where.items()]
        self.regions += len(record.best)


def batch_targets(
    store: AnnotationStore, rows: Sequence[int], boxes: torch.Tensor, policy: LabelPolicy, target: str
) -> torch.Tensor:
    """Return the targets of a batch of crops, one per row.

    Args:
        store: The annotations.
        rows: B rows of the store.
        boxes: (B, 4), (top, left, height, width) in pixels of the upright images; they may extend outside. Computation
            is in float64 on their device.
        policy: Which classes count as present.
        target: `multi_hot`, `soft`, `ignore` or `pooled`; see `MultiLabelImageNet`.

    Returns:
        (B, 1000) float32 on the boxes' device.

    Raises:
        ValueError: If the target is not a vector, or the boxes have another shape or a size that is not positive.
        AnnotationError: If an image was unreadable when annotated.
    """
    if target not in _KINDS:
        raise ValueError(f"the target of a batch must be one of {', '.join(_KINDS)}, got {target!r}")
    if boxes.shape != (len(rows), 4) or not bool((boxes[:, 2:] > 0).all()):
        raise ValueError(f"boxes must be ({len(rows)}, 4) with positive heights and widths, got {tuple(boxes.shape)}")
    records = [store.record(row) for row in rows]
    flat = _Flat()
    for image, record in enumerate(records):
        if record.size is None:
            raise AnnotationError(f"{record.image_id}: {NO_SIZE}")
        flat.add(image, record, policy)
    sizes = torch.tensor([record.size for record in records], dtype=torch.float64, device=boxes.device)
    visible, area = _visible(boxes.double(), sizes)
    shares = _shares(records, flat.regions, visible, area)
    if target == "pooled":
        return _pooled(records, flat, shares)
    states, scores = _states(records, flat, shares, visible, policy)
    values = {"multi_hot": (states == 1).double(), "ignore": states.double(), "soft": (states == 1) * scores}[target]
    return values.float()


def _visible(boxes: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the part of each image in its box, (B, 4) fractions (top, left, bottom, right), and the boxes' areas."""
    first, last = boxes[:, :2] / sizes, (boxes[:, :2] + boxes[:, 2:]) / sizes
    area = (last - first).prod(dim=1)
    return torch.cat([first.clamp(0, 1), last.clamp(0, 1)], dim=1), area


def _shares(records: list[Record], count: int, visible: torch.Tensor, area: torch.Tensor) -> torch.Tensor:
    """Return (M, 2): visibility and coverage of all regions."""
    shares = torch.zeros((count, 2), dtype=torch.float64, device=visible.device)
    groups: dict[tuple[int, int], tuple[list[int], list[int], list[np.ndarray]]] = {}
    begin = 0
    for image, record in enumerate(records):
        for stack in record.stacks:
            positions, images, masks = groups.setdefault(stack.grid, ([], [], []))
            positions += [begin + k for k in stack.regions]
            images += [image] * len(stack.regions)
            masks.append(stack.masks)
        begin += len(record.best)
    for (height, width), (positions, images, masks) in groups.items():
        stacked = torch.from_numpy(np.concatenate(masks)).to(visible.device).double()
        box, view_area = visible[images], area[images]
        rows = _overlap(box[:, 0], box[:, 2], height)
        columns = _overlap(box[:, 1], box[:, 3], width)
        shown = torch.einsum("mhw,mh,mw->m", stacked, rows, columns)
        shares[positions, 0] = shown / stacked.sum(dim=(1, 2)).clamp(min=1)
        shares[positions, 1] = shown / (height * width * view_area)
    return shares


def _overlap(start: torch.Tensor, stop: torch.Tensor, cells: int) -> torch.Tensor:
    """Return (M, cells): the share of each cell covered by intervals given as fractions of all cells."""
    edges = torch.arange(cells + 1, dtype=torch.float64, device=start.device)
    low, high = (start * cells)[:, None], torch.maximum(start, stop)[:, None] * cells
    return edges.clamp(low, high).diff(dim=1)


def _states(
    records: list[Record], flat: _Flat, shares: torch.Tensor, visible: torch.Tensor, policy: LabelPolicy
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (B, K) states (1, 0, -1) and scores."""
    device = visible.device
    table = torch.zeros((len(records), NUM_CLASSES), dtype=torch.int8, device=device)
    scores = torch.zeros((len(records), NUM_CLASSES), dtype=torch.float64, device=device)
    if flat.labels:
        image, index, image_score = _columns(flat.labels, device)
        label_states, label_scores = _located(flat, _decide(shares[:, 0], shares[:, 1], policy), image_score)
        unlocated = torch.tensor(flat.unlocated, device=device)
        seen = ((visible[:, 2:] - visible[:, :2]).clamp(min=0)).prod(dim=1)[image]
        spread = _decide(seen, torch.zeros_like(seen), policy)
        rule = {"spread": spread, "keep": torch.ones_like(spread), "drop": torch.zeros_like(spread)}[policy.unlocated]
        label_states = torch.where(unlocated, rule, label_states)
        table[image, index] = label_states
        scores[image, index] = label_scores
    for k, record in enumerate(records):
        if record.label is None:
            continue
        if policy.original == "unless_gone" and int(table[k, record.label]) == -1:
            table[k, record.label] = 1
        empty = policy.empty == "original" and not bool((table[k] == 1).any())
        if policy.original == "always" or empty:
            table[k, record.label] = 1
            if all(index != record.label for index, _ in record.labels):
                scores[k, record.label] = 1.0
    return table, scores


def _located(flat: _Flat, states: torch.Tensor, image_score: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each label's state over its regions, and its best score among its present regions."""
    count = len(flat.labels)
    label, region, score = _columns(flat.pairs, states.device)
    of_pair = states[region]
    present = torch.zeros(count, device=states.device).index_add_(0, label, (of_pair == 1).float()) > 0
    undecided = torch.zeros(count, device=states.device).index_add_(0, label, (of_pair == -1).float()) > 0
    found = torch.where(present, 1, torch.where(undecided, -1, 0)).to(torch.int8)
    best = torch.zeros(count, dtype=torch.float64, device=states.device)
    best = best.scatter_reduce(0, label, score * (of_pair == 1), "amax")
    return found, torch.where(present, best, image_score)


def _pooled(records: list[Record], flat: _Flat, shares: torch.Tensor) -> torch.Tensor:
    table = torch.zeros((len(records), NUM_CLASSES), dtype=torch.float64, device=shares.device)
    if flat.evidence:
        image, index, region = (
            torch.tensor(c, device=shares.device) for c in list(zip(*flat.evidence, strict=True))[:3]
        )
        score = torch.tensor([e[3] for e in flat.evidence], dtype=torch.float64, device=shares.device)
        table.index_put_((image, index), shares[region, 1] * score, accumulate=True)
    total = table.sum(dim=1, keepdim=True)
    table = torch.where(total > 0, table / total.clamp(min=torch.finfo(torch.float64).tiny), table)
    for k, record in enumerate(records):
        if record.label is not None and not bool(total[k] > 0):
            table[k, record.label] = 1.0
    return table.float()


def _decide(visibility: torch.Tensor, coverage: torch.Tensor, policy: LabelPolicy) -> torch.Tensor:
    present = (visibility >= policy.visibility - ROUNDING) | (coverage >= policy.coverage - ROUNDING)
    absent = (visibility <= policy.absent_visibility + ROUNDING) & (coverage <= policy.absent_coverage + ROUNDING)
    return torch.where(present, 1, torch.where(absent, 0, -1)).to(torch.int8)


def _columns(
    rows: list[tuple[int, int, float]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return two index columns and a float64 one."""
    whole = torch.tensor([row[:2] for row in rows], dtype=torch.int64, device=device).reshape(-1, 2)
    return whole[:, 0], whole[:, 1], torch.tensor([row[2] for row in rows], dtype=torch.float64, device=device)
