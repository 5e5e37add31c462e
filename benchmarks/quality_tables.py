"""The tables of docs/quality.md and docs/labels.md, from the results of `benchmarks.quality`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from benchmarks.policies import COLUMNS, POLICIES
from benchmarks.trust import FITTED, WAYS
from benchmarks.variants import COCO, DEFAULT, IMAGENET, TABLES, Table

__all__ = ["DEFAULTS", "END", "MARK", "POLICY_MARK", "between", "cell", "interval", "policy_table", "quality_tables"]

MARK = "<!-- tables: written by `python -m benchmarks.quality` -->\n"
POLICY_MARK, END = "<!-- table: written by `python -m benchmarks.quality` -->\n", "<!-- end of table -->\n"
Results = Mapping[str, Any]
NAMES = {
    "labels.f1": "F1", "labels.precision": "precision", "labels.recall": "recall", "labels.added": "added labels",
    "labels.added_right": "added labels that are right", "labels.others_found": "other true labels found",
    "labels.labels_per_image": "labels per image", "labels.best_right": "best label is true",
    "labels.f1_of_1": "F1, images with 1 true label", "labels.f1_of_2": "F1, 2 true labels",
    "labels.f1_of_3": "F1, 3 true labels", "labels.f1_of_4_or_more": "F1, 4 or more true labels",
    "scores.ece": "ECE of all labels", "scores.ece_original": "ECE of originals", "scores.ece_added": "ECE of added labels",
    "scores.wrong_auroc": "AUROC of wrong originals", "scores.wrong_not_best": "wrong originals not best",
    "regions.corloc": "CorLoc", "regions.loc_named": "named and located", "regions.regions_per_image": "regions per image",
    "crops.wrong": "crops told wrongly", "crops.gone_told": "crops: gone, not named", "crops.there_kept": "crops: there, named",
    "crops.empty": "crops: there, empty target", "labels.best_f1": "best F1", "labels.precision@0.5": "precision@0.5",
    "labels.map": "mAP", "labels.multi_object@0.1": "two or more objects found @0.1",
    "regions.grounded": "named regions on object",
    "regions.best_iou_5pct": "best IoU, objects over 5%", "regions.recall_iou50": "recall at IoU 0.5", "crops.f1": "F1 of crops",
    "crops.precision": "precision of crops", "crops.recall": "recall of crops",
}  # fmt: skip
DEFAULTS = {
    IMAGENET: (
        "labels.f1", "labels.precision", "labels.recall", "labels.f1_of_1", "labels.f1_of_2", "labels.f1_of_3",
        "labels.f1_of_4_or_more", "labels.labels_per_image", "labels.added", "labels.added_right", "labels.others_found",
        "labels.best_right", "scores.ece", "scores.ece_original", "scores.ece_added", "scores.wrong_auroc",
        "scores.wrong_not_best", "regions.corloc", "regions.loc_named", "regions.regions_per_image", "crops.wrong",
        "crops.gone_told", "crops.there_kept", "crops.empty",
    ),
    COCO: (
        "labels.best_f1", "labels.precision@0.5", "labels.map", "labels.multi_object@0.1", "regions.grounded",
        "regions.best_iou_5pct", "regions.recall_iou50", "regions.regions_per_image", "crops.f1", "crops.precision",
        "crops.recall",
    ),
}  # fmt: skip
_HEADS = {
    IMAGENET: ("The default build of ImageNet photographs", ("figure", "the build", "single label", "difference")),
    COCO: ("The default build of COCO photographs", ("figure", "the build", "labels of the whole image", "difference")),
}
_POLICY_NAMES = {"wrong": "told wrongly", "gone_told": "gone, not named", "there_kept": "there, named",
                 "empty": "there, empty target", "f1": "F1"}  # fmt: skip


def interval(found: Sequence[float] | None, digits: int = 3, sign: str = "") -> str:
    """Return a value and its interval, or "-" if it is undefined."""
    if not _is_known(found):
        return "-"
    value, low, high = (f"{number:{sign}.{digits}f}" for number in found)
    return f"{value} [{low}, {high}]"


def _is_known(found: Sequence[float] | None) -> TypeGuard[Sequence[float]]:
    return found is not None and all(number is not None and not math.isnan(number) for number in found)


def cell(figure: Mapping[str, Any], digits: int = 3) -> str:
    """Return a value with its difference to the default: bold if the interval excludes 0, "=" if nothing differs."""
    value, difference = figure["value"], figure["other_difference"]
    if not (_is_known(value) and _is_known(difference)):
        return "-"
    if not any(difference):
        return "="
    text = f"{value[0]:.{digits}f} ({interval(difference, digits, '+')})"
    return f"**{text}**" if difference[1] > 0 or difference[2] < 0 else text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _digits(name: str) -> int:
    return {"added": 0, "regions_per_image": 2, "labels_per_image": 2}.get(name.partition(".")[2], 3)


def _own_interval(figure: Mapping[str, Any]) -> str:
    return interval(figure["value"])


def quality_tables(results: Results) -> str:
    """Return the tables of docs/quality.md; variants without results are left out."""
    parts = [results["measured"]]
    for name, (title, head) in _HEADS.items():
        figures = results["defaults"][name]
        parts += [f"### {title}", _table(head, [_default_row(key, figures[key]) for key in DEFAULTS[name]])]
    parts += ["### Scores of original labels", _trust_table(results["trust"])]
    for table in TABLES:
        parts += [f"### {table.title}", _variants_table(table, results)]
    return "\n\n".join(parts) + "\n"


def _default_row(key: str, figure: Mapping[str, Any]) -> list[str]:
    digits, baseline = _digits(key), figure.get("baseline")
    beside = [interval(baseline, digits), interval(figure.get("difference"), digits, "+")]
    return [NAMES[key], interval(figure["value"], digits), *(["-", "-"] if baseline is None else beside)]


def _variants_table(table: Table, results: Results) -> str:
    default = results["defaults"][table.photographs]
    rows = [[DEFAULT.name, *(f"{default[key]['value'][0]:.{_digits(key)}f}" for key in table.figures)]]
    for variant in table.variants:
        found = results["variants"].get(f"{table.photographs}/{variant.name}")
        if found:
            rows.append([variant.name, *(cell(found[key], _digits(key)) for key in table.figures)])
    return _table(["variant", *(NAMES[key] for key in table.figures)], rows)


def _trust_table(found: Mapping[str, Any]) -> str:
    rows = []
    for name in WAYS:
        way, show = found[name], _own_interval if name == FITTED else cell
        numbers = ["-" if way[key] is None else f"{way[key]:.3f}" for key in ("error", "weight")]
        rows.append([name, *numbers, *(show(way["figures"][key]) for key in ("ece", "log_loss", "auroc"))])
    return _table(["score", "share wrong", "weight", "ECE", "log loss", "AUROC of wrong originals"], rows)


def policy_table(results: Results) -> str:
    """Return the table of docs/labels.md."""
    rows = []
    for policy in POLICIES:
        found = results["policies"][policy.name]
        show = _own_interval if policy == POLICIES[0] else cell
        rows.append([policy.name, *(show(found[photographs][key]) for photographs, key in COLUMNS)])
    titles = {IMAGENET: "ImageNet", COCO: "COCO"}
    return _table(["policy", *(f"{titles[name]}: {_POLICY_NAMES[key]}" for name, key in COLUMNS)], rows) + "\n"


def between(text: str, start: str, end: str, new: str) -> str:
    """Return a text with everything between two marks replaced; after the first one if the second is empty.

    Raises:
        ValueError: If a mark is missing.
    """
    before, mark, rest = text.partition(start)
    _, closing, after = rest.partition(end) if end else ("", "", "")
    if not mark or (end and not closing):
        raise ValueError(f"the document lacks {start.strip()} or {end.strip()}")
    return f"{before}{start}\n{new}\n{end}{after}"
