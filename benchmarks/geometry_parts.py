# ruff: noqa: B008 - the defaults of lambdas are drawn once, which is what they are for
"""Random transforms for `benchmarks.geometry`: torchvision v2 and v1, timm, Pillow's functions, users' own classes."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageOps
from timm.data import transforms as timm_transforms
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing as TimmErasing
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

__all__ = ["FAMILIES", "draw"]

NEAREST = v2.InterpolationMode.NEAREST
Part = Callable[[Any], Any]
Maker = Callable[[random.Random], Part]


def size(rng: random.Random) -> tuple[int, int]:
    return rng.randint(60, 140), rng.randint(60, 140)


def v2_parts(lib: Any = v2) -> dict[str, Maker]:
    """Return the geometric classes that v2 and v1 share, and their containers."""
    return {
        "RandomResizedCrop": lambda r: lib.RandomResizedCrop(size(r), scale=(0.1, 1), interpolation=NEAREST),
        "Resize": lambda r: lib.Resize(r.choice([size(r), r.randint(60, 130)]), interpolation=NEAREST),
        "CenterCrop": lambda r: lib.CenterCrop(size(r)),
        "RandomCrop": lambda r: lib.RandomCrop(size(r), padding=r.choice([None, 7, (3, 9)]), pad_if_needed=True),
        "Pad": lambda r: lib.Pad(r.choice([5, (4, 9), (1, 2, 3, 14)])),
        "RandomHorizontalFlip": lambda r: lib.RandomHorizontalFlip(),
        "RandomVerticalFlip": lambda r: lib.RandomVerticalFlip(),
        "RandomRotation": lambda r: lib.RandomRotation(r.choice([30, 90, 180])),
        "RandomRotation, expand": lambda r: lib.RandomRotation(r.choice([30, 90, 180]), expand=True),
        "RandomRotation, center": lambda r: lib.RandomRotation(60, center=(r.randint(0, 90), r.randint(0, 90))),
        "RandomAffine": lambda r: lib.RandomAffine(60, (0.2, 0.2), (0.6, 1.5), (-20, 20, -20, 20)),
        "RandomPerspective": lambda r: lib.RandomPerspective(r.uniform(0.1, 1), p=0.9, interpolation=NEAREST),
    }


def tensor_parts() -> dict[str, Maker]:
    """Return parts that need a tensor."""
    return {
        "RandomErasing": lambda r: v2.RandomErasing(p=0.9),
        "v1 RandomErasing": lambda r: v1.RandomErasing(p=0.9),
        "timm RandomErasing": lambda r: TimmErasing(0.9, mode="const", max_count=3, device="cpu"),
        "marked function of v2.functional": lambda r: Marked(
            functools.partial(resized, box=(r.randint(0, 20), r.randint(0, 20), *size(r)))
        ),
        "function of v2.functional": lambda r: functools.partial(turned, angle=r.uniform(-90, 90)),
        "marked Lambda": lambda r: marked_lambda(functools.partial(resized, box=(3, 4, *size(r)))),
        "cutout by assignment": lambda r: cutout_by_assignment,
        "cutout by a mask": lambda r: cutout_by_mask,
    }


def timm_parts() -> dict[str, Maker]:
    return {
        "RandomResizedCropAndInterpolation": lambda r: timm_transforms.RandomResizedCropAndInterpolation(
            size(r), interpolation="bilinear"
        ),
        "ResizeKeepRatio": lambda r: timm_transforms.ResizeKeepRatio(
            size(r), longest=r.random(), random_scale_prob=0.5, random_aspect_prob=0.5
        ),
        "CenterCropOrPad": lambda r: timm_transforms.CenterCropOrPad(size(r)),
        "RandomCropOrPad": lambda r: timm_transforms.RandomCropOrPad(size(r)),
        "RandomPad": lambda r: timm_transforms.RandomPad(size(r)),
        "TrimBorder": lambda r: timm_transforms.TrimBorder(r.randint(1, 12)),
        "RandAugment, geometric": lambda r: geometric_rand_augment(),
    }


def geometric_rand_augment() -> Part:
    augment = rand_augment_transform("rand-m9-n2", {"translate_const": 20, "img_mean": (0, 0, 0)})
    augment.ops = [op for op in augment.ops if op.name.startswith(("Rotate", "Shear", "Translate"))]
    augment.choice_weights = None
    return augment


def pillow_parts() -> dict[str, Maker]:
    near = Image.Resampling.NEAREST
    return {
        "crop": lambda r: lambda i, b=(r.randint(-9, 30), r.randint(-9, 30)): i.crop((*b, b[0] + 80, b[1] + 70)),
        "resize, box": lambda r: lambda i, s=size(r): i.resize(s, near, box=(3.5, 4.25, i.width - 2, i.height - 7.5)),
        "thumbnail": lambda r: functools.partial(thumbnail, side=r.randint(60, 120)),
        "reduce": lambda r: lambda i, f=r.choice([1, (1, 2), 2]): i.reduce(f) if min(i.size) > 120 else i,
        "transpose": lambda r: lambda i, m=r.choice(list(Image.Transpose)): i.transpose(m),
        "rotate": lambda r: (
            lambda i, a=r.uniform(-180, 180), e=r.random() < 0.5: i.rotate(a, expand=e, translate=(3, 5))
        ),
        "transform": lambda r: (
            lambda i, s=size(r): i.transform(s, Image.Transform.EXTENT, (5, 6, i.width - 9, i.height - 3))
        ),
        "paste a colour": lambda r: functools.partial(painted, box=(r.randint(0, 40), r.randint(0, 40))),
        "letterbox": lambda r: letterboxed,
        "expand": lambda r: lambda i, b=(r.randint(0, 9), 3, 7, r.randint(0, 9)): ImageOps.expand(i, b),
        "ImageOps.pad": lambda r: lambda i, s=size(r): ImageOps.pad(i, s, near),
        "ImageOps.fit": lambda r: lambda i, s=size(r): ImageOps.fit(i, s, near),
        "mirror": lambda r: ImageOps.mirror,
        "rotate on grey": lambda r: functools.partial(rotated_on_black, angle=r.uniform(-60, 60)),
        "draw": lambda r: drawn,
        "offset": lambda r: lambda i: ImageChops.offset(i, 30, 20),
        "blend of two": lambda r: lambda i: Image.blend(i, i.transpose(Image.Transpose.ROTATE_180), 0.5),
        "brightness": lambda r: lambda i: ImageEnhance.Brightness(i).enhance(0.99),
        "from an array": lambda r: lambda i: Image.fromarray(np.asarray(i)[:, ::-1].copy()),
        "putpixel": lambda r: pixels_set,
        "paste of a part": lambda r: part_pasted,
        "v2 pad": lambda r: lambda i: F.pad(i, [3, 9, 2, 5]),
        "v2 affine": lambda r: lambda i: F.affine(i, 20, [5, -7], 1.2, [10.0, 5.0]),
    }


def thumbnail(image: Any, side: int) -> Any:
    image.thumbnail((side, side), Image.Resampling.NEAREST)
    return image


def painted(image: Any, box: tuple[int, int]) -> Any:
    image.paste((0, 0, 0), (*box, box[0] + 30, box[1] + 25))
    return image


def letterboxed(image: Any) -> Any:
    side = max(image.size)
    canvas = Image.new("RGB", (side, side))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


def rotated_on_black(image: Any, angle: float) -> Any:
    turned = image.convert("RGBA").rotate(angle)
    return Image.composite(turned, Image.new("RGBA", turned.size, (0, 0, 0, 255)), turned).convert("RGB")


def drawn(image: Any) -> Any:
    ImageDraw.Draw(image).rectangle((5, 5, 50, 60), fill=(0, 0, 0))
    return image


def pixels_set(image: Any) -> Any:
    for x in range(20, 40):
        for y in range(10, 50):
            image.putpixel((x, y), (0, 0, 0))
    return image


def part_pasted(image: Any) -> Any:
    image.paste(image.crop((0, 0, 30, 30)), (40, 30))
    return image


def resized(image: Any, box: tuple[int, int, int, int]) -> Any:
    return F.resized_crop(image, box[0], box[1], 50, 60, list(box[2:]), interpolation=NEAREST)


def turned(image: Any, angle: float) -> Any:
    return F.horizontal_flip(F.rotate(image, angle))


def cutout_by_assignment(image: Any) -> Any:
    image[:, 10:50, 20:60] = 0
    return image


def cutout_by_mask(image: Any) -> Any:
    mask = torch.ones_like(image)
    mask[:, 10:50, 20:60] = 0
    return image * mask


class Marked:
    """A callable class whose instances are marked."""

    tracks_views = True

    def __init__(self, function: Part) -> None:
        self.function = function

    def __call__(self, image: Any) -> Any:
        return self.function(image)


def marked_lambda(function: Part) -> Part:
    transform = v2.Lambda(function)
    transform.tracks_views = True
    return transform


class Sometimes(v2.Compose):
    """A container of the user's, with a constructor and a `forward` of its own."""

    def __init__(self, share: float, *parts: Part) -> None:
        torch.nn.Module.__init__(self)
        self.share, self.transforms = share, list(parts)

    def forward(self, image: Any) -> Any:
        for part in self.transforms:
            if random.random() < self.share:
                image = part(image)
        return image


class SomeOf(v2.RandomOrder):
    """Some of the parts, in random order."""

    def __init__(self, parts: list[Part], n: int) -> None:
        super().__init__(parts)
        self.n = n

    def forward(self, *inputs: Any) -> Any:
        for index in torch.randperm(len(self.transforms))[: self.n]:
            inputs = (self.transforms[int(index)](*inputs),)
        return inputs[0]


class Branches:
    """A class of the user's that holds parts in attributes and in a dict."""

    def __init__(self, first: Part, second: Part) -> None:
        self.first, self.others, self.calls = first, {"second": second}, 0

    def __call__(self, image: Any) -> Any:
        self.calls += 1
        return self.first(image) if np.random.rand() < 0.5 else self.others["second"](image)


def contained(parts: list[Part], rng: random.Random) -> Part:
    """Return one transform of several parts."""
    kinds: list[Callable[[list[Part]], Part]] = [
        v2.Compose, v1.Compose, v2.RandomOrder, v1.RandomOrder, v2.RandomChoice, v1.RandomChoice,
        lambda p: v2.RandomApply(p, 0.7), lambda p: v1.RandomApply(p, 0.7), lambda p: Sometimes(0.7, *p),
        lambda p: SomeOf(p, max(1, len(p) - 1)), lambda p: Branches(p[0], p[-1]),
    ]  # fmt: skip
    return rng.choice(kinds[:2] * 4 + kinds)(parts)


FAMILIES: dict[str, dict[str, Maker]] = {
    "v2": v2_parts(),
    "v1": v2_parts(v1),
    "timm": timm_parts(),
    "Pillow": pillow_parts(),
    "tensor": tensor_parts(),
}


def draw(rng: random.Random, families: list[str]) -> tuple[Part, list[str]]:
    """Return a random transform and the names of its parts."""
    names, parts = [], []
    as_tensor = "tensor" in families and rng.random() < 0.4
    usable = [
        family
        for family in families
        if family in (("v2", "v1", "tensor") if as_tensor else ("v2", "v1", "timm", "Pillow"))
    ]
    for _ in range(rng.choice([1, 1, 2, 3])):
        family = rng.choice(usable)
        name = rng.choice(list(FAMILIES[family]))
        names.append(f"{family} {name}" if family not in name else name)
        parts.append(FAMILIES[family][name](rng))
    whole = contained(parts, rng) if len(parts) > 1 or rng.random() < 0.2 else parts[0]
    return (v2.Compose([v2.PILToTensor(), whole]) if as_tensor else whole), names
