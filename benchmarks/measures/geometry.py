"""Compare views with the pixels that random transforms really return; `benchmarks.geometry` is its command line."""

from __future__ import annotations

import argparse
import random
import warnings
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.geometry_parts import draw
from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.views.follow import follow, transform_with_view
from mlimagenet_data.views.view import View

TOLERANCE = 0.01  # share of the pixels that may differ, beside those at the border
_ROUNDING = 2.5  # grey values by which resampling may move a coordinate
NATIVE_ONLY = ("v2", "v1", "timm")  # families whose own classes must not be refused


class Finding(NamedTuple):
    """What came of one random transform: `right`, `unclear`, `refused` or what is wrong; and the names of its parts."""

    outcome: str
    parts: list[str]


def coordinates(height: int, width: int) -> Image.Image:
    """Return the image that holds its own coordinates."""
    ys, xs = np.mgrid[0:height, 0:width] + 0.5
    pixels = np.stack([xs * 255 / width, ys * 255 / height, np.full(xs.shape, 255)], axis=-1)
    return Image.fromarray(pixels.round().astype(np.uint8))


def seed(number: int) -> None:
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)


def states() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


def pixels_of(output: Any) -> np.ndarray:
    """Return (H, W, 3) uint8."""
    if isinstance(output, Image.Image):
        return np.asarray(output.convert("RGB"))
    return output.permute(1, 2, 0).numpy()


def judge(native: np.ndarray, view: View, rng: random.Random) -> str:
    """Compare three regions, the visible part and its area, found in the native pixels, with those of the view."""
    height, width = native.shape[:2]
    if view.canvas_size != (height, width):
        return "another size"
    shown = native[..., 2] > 200
    border = TOLERANCE + 2 * (height + width) / (height * width)  # one pixel at the edges of the visible part
    if (shown != view.sample(np.ones((1, 2, 2), bool))[0]).mean() > border:
        return "another visible part"
    y, x = native[..., 1] / 255, native[..., 0] / 255
    for _ in range(3):
        top, left = rng.uniform(0, 0.7), rng.uniform(0, 0.7)
        bottom, right = top + rng.uniform(0.15, 0.3), left + rng.uniform(0.15, 0.3)
        surely, perhaps = (
            shown & (y >= top - m) & (y < bottom + m) & (x >= left - m) & (x < right + m)
            for m in (-_ROUNDING / 255, _ROUNDING / 255)
        )
        mask = np.zeros((1, 400, 400), bool)
        mask[0, round(top * 400) : round(bottom * 400), round(left * 400) : round(right * 400)] = True
        found = view.sample(mask)[0]
        if ((surely & ~found) | (found & ~perhaps)).mean() > border:
            return "another region"
    if abs(view.visible_area / view.area - shown.mean()) > 2 * border and view.area < np.inf:
        return "another area"
    return "right"


def examine(number: int, families: list[str]) -> Finding:
    """Run a random transform natively and followed, and compare."""
    rng = random.Random(number)
    image = coordinates(rng.randint(90, 160), rng.randint(90, 160))
    transform, parts = draw(rng, families)
    try:
        seed(number)
        native, after = pixels_of(transform(image.copy())), states()
    except (ValueError, RuntimeError, ZeroDivisionError, TypeError, IndexError, SystemError):
        return Finding("not possible natively", parts)
    try:
        seed(number)
        output, view = transform_with_view(follow(transform), image.copy())
    except UntrackableTransformError as error:
        is_known = all(part.split(" ")[0] in NATIVE_ONLY for part in parts)
        return Finding(f"refused: {str(error)[:80]}" if is_known or ": " not in str(error) else "refused", parts)
    except Exception as error:  # noqa: BLE001 - any other error is a finding
        return Finding(f"raised {type(error).__name__}: {str(error)[:60]}", parts)
    if not np.array_equal(native, pixels_of(output)) or states() != after:
        return Finding("other pixels, or another random state", parts)
    return Finding(judge(native, view, rng), parts)


def run(args: argparse.Namespace) -> int:
    """Judge outputs; return 1 if one is wrong, else 0."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # torchvision's about centres and antialiasing
    outcomes: Counter[str] = Counter()
    by_part: dict[str, Counter[str]] = {}
    console = Console(width=150)
    for number in track(range(args.first, args.first + args.outputs), description="transforms"):
        found = examine(number, args.families)
        outcomes[found.outcome] += 1
        for part in set(found.parts):
            by_part.setdefault(part, Counter())[
                found.outcome if found.outcome in ("right", "refused") else "other"
            ] += 1
        if found.outcome not in ("right", "refused", "not possible natively"):
            console.print(f"transform {number}: {found.outcome}: {', '.join(found.parts)}", markup=False)
    table = Table("part", "right", "refused", "other", title="transforms that hold the part")
    for part, counts in sorted(by_part.items()):
        table.add_row(part, *(str(counts[name]) for name in ("right", "refused", "other")))
    console.print(table)
    wrong = sum(count for name, count in outcomes.items() if name not in ("right", "refused", "not possible natively"))
    console.print(
        f"{outcomes['right']} outputs right, {wrong} wrong, {outcomes['refused']} refused, "
        f"{outcomes['not possible natively']} not possible natively"
    )
    return 1 if wrong else 0
