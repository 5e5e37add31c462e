"""The loader's rules for crops, measured: how often a crop's target is right, by `LabelPolicy`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.variants import COCO, IMAGENET, Photographs, replaced
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.evaluate.compare.bootstrap import Figure, Group, figures_of
from mlimagenet_data.evaluate.compare.crop_groups import box_crop_group, mask_crop_group
from mlimagenet_data.evaluate.compare.matching import match, originals_of
from mlimagenet_data.labelling.policy import LabelPolicy

__all__ = ["COLUMNS", "POLICIES", "Policy", "measure_policies"]

COLUMNS = (
    (IMAGENET, "wrong"), (IMAGENET, "gone_told"), (IMAGENET, "there_kept"), (IMAGENET, "empty"), (COCO, "f1"),
)  # fmt: skip


@dataclass(frozen=True)
class Policy:
    """Rules that differ from the default.

    Attributes:
        name: Name in the table.
        rules: Arguments of `LabelPolicy`.
        constants: Module constants, replaced while the crops are judged.
    """

    name: str
    rules: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)


def _rule(**rules: Any) -> Policy:
    return Policy(", ".join(f"`{name}={value!r}`" for name, value in rules.items()), rules)


POLICIES = (
    Policy("default"),
    _rule(visibility=0.35),
    _rule(visibility=0.65),
    _rule(coverage=0.15),
    _rule(coverage=0.35),
    *(_rule(absent_visibility=v, absent_coverage=c) for v, c in ((0.05, 0.02), (0.1, 0.05), (0.2, 0.1))),
    _rule(min_score=0.25),
    _rule(unlocated="keep"),
    _rule(unlocated="drop"),
    _rule(original="as_others"),
    _rule(original="if_located"),
    _rule(original="always"),
    Policy("all regions of the original label", {}, {"mlimagenet_data.labelling.policy.MAIN_SHARE": 0.0}),
)


def measure_policies(
    sets: Mapping[str, Photographs], datasets: Mapping[str, Path], crops: int, draws: int
) -> dict[str, dict[str, dict[str, Figure]]]:
    """Return the crops' figures by policy and set; `other` is the default policy.

    Args:
        sets: The photographs.
        datasets: Their builds, by the same names.
        crops: Number of crops per image.
        draws: Number of bootstrap draws.
    """
    out: dict[str, dict[str, dict[str, Figure]]] = {policy.name: {} for policy in POLICIES}
    for name, photographs in sets.items():
        groups: list[Group] = []
        for policy in POLICIES:
            with replaced(policy.constants):
                found = _crops(photographs, datasets[name], LabelPolicy(**policy.rules), crops)
            groups.append(found._replace(name=policy.name, other=(groups or [found])[0].dataset))
        for policy_name, figures in figures_of(groups, len(photographs.truth), draws, 0).items():
            out[policy_name][name] = figures
    return out


def _crops(photographs: Photographs, dataset: Path, policy: LabelPolicy, crops: int) -> Group:
    truth = photographs.truth
    matched = match(AnnotationStore(dataset, "train"), truth)
    if truth.masks is not None:
        return mask_crop_group(truth.masks, [matched], crops, 0, policy)
    return box_crop_group(truth, [matched], originals_of(truth, matched), crops, 0, policy)
