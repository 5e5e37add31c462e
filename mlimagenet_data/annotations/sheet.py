"""Picture sheets: photographs with their regions drawn over them, and their labels."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from mlimagenet_data.annotations.masks import stretch_mask
from mlimagenet_data.annotations.records import Record
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.files.single import PICTURE_METADATA

__all__ = ["as_html", "clearest", "draw_card", "draw_regions", "region_colour", "write_sheet"]

_PICTURE = (400, 300)  # maximum (width, height) of a card's picture
_CARD = (800, 324)
_MOST_REGIONS = 6
_INK, _SOFT, _PAPER = (24, 24, 27), (100, 100, 108), (255, 255, 255)


def region_colour(index: int) -> tuple[int, int, int]:
    """Return the colour of a region: golden-ratio steps around the hue circle, so that neighbours differ."""
    red, green, blue = colorsys.hsv_to_rgb((0.58 + 0.618034 * index) % 1.0, 0.85, 0.95)
    return int(255 * red), int(255 * green), int(255 * blue)


def clearest(record: Record) -> list[int]:
    """Return the positions of the six regions with the best scores, best first."""
    order = sorted(range(len(record.regions)), key=lambda k: -record.regions[k].score)
    return order[:_MOST_REGIONS]


def draw_regions(image: Image.Image, record: Record) -> Image.Image:
    """Return a copy of an RGB image with its clearest regions tinted, outlined and numbered by position from 1."""
    pixels = np.asarray(image, np.float32).copy()
    places = []
    for index in clearest(record):
        region = record.regions[index]
        mask = stretch_mask(region.mask, image.height, image.width)
        if not mask.any():
            continue
        colour = np.array(region_colour(index), np.float32)
        pixels[mask] = 0.62 * pixels[mask] + 0.38 * colour
        pixels[_border(mask)] = colour
        places.append((index, _middle(mask)))
    drawn = Image.fromarray(pixels.astype(np.uint8))
    pen = ImageDraw.Draw(drawn)
    for index, (x, y) in places:
        pen.ellipse((x - 11, y - 11, x + 11, y + 11), fill=region_colour(index), outline=_PAPER, width=2)
        pen.text((x, y), str(index + 1), fill=_PAPER, font=_font(14), anchor="mm")
    return drawn


def _border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 2)
    inside = mask.copy()
    for dy, dx in ((0, 2), (4, 2), (2, 0), (2, 4)):
        inside &= padded[dy : dy + mask.shape[0], dx : dx + mask.shape[1]]
    return mask & ~inside


def _middle(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the (x, y) of the masked pixel closest to the mask's centre of mass."""
    ys, xs = np.nonzero(mask)
    nearest = np.argmin((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2)
    return int(xs[nearest]), int(ys[nearest])


def draw_card(image: Image.Image, record: Record) -> Image.Image:
    """Draw one image with its regions, and its labels beside it."""
    names = imagenet_classes().names
    scale = min(_PICTURE[0] / image.width, _PICTURE[1] / image.height)
    small = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
    )
    card = Image.new("RGB", _CARD, _PAPER)
    card.paste(draw_regions(small, record), (12, 12))
    pen = ImageDraw.Draw(card)
    left, y = 12 + _PICTURE[0] + 16, 12
    pen.text((left, y), _shorten(record.image_id, 44), fill=_INK, font=_font(15))
    original = "none" if record.label is None else names[record.label]
    pen.text((left, y + 21), f"original label: {original}", fill=_SOFT, font=_font(13))
    y = _draw_scores(pen, left, y + 48, "image labels", [(names[c], s, _INK) for c, s in record.labels[:5]])
    shown = [(k, record.regions[k]) for k in clearest(record)]
    rows = [(f"{k + 1}  {names[r.label]}", r.score, region_colour(k)) for k, r in shown]
    _draw_scores(pen, left, y + 10, "regions", rows)
    return card


def _draw_scores(
    pen: ImageDraw.ImageDraw, left: int, top: int, title: str, rows: Sequence[tuple[str, float, tuple[int, int, int]]]
) -> int:
    pen.text((left, top), title, fill=_SOFT, font=_font(12))
    top += 18
    for name, score, colour in rows:
        pen.text((left, top), _shorten(name, 30), fill=_INK, font=_font(13))
        pen.rectangle((left + 230, top + 3, left + 230 + int(90 * score), top + 13), fill=colour)
        pen.text((left + 326, top), f"{score:.2f}", fill=_INK, font=_font(13))
        top += 19
    return top


def write_sheet(path: Path, items: Iterable[tuple[Image.Image, Record]], *, columns: int = 2) -> None:
    """Write a PNG with a grid of cards.

    Raises:
        ValueError: If there are no items.
    """
    cards = [draw_card(image, record) for image, record in items]
    if not cards:
        raise ValueError("a picture sheet needs at least one readable image")
    columns = min(columns, len(cards))
    rows = -(-len(cards) // columns)
    sheet = Image.new("RGB", (columns * _CARD[0], rows * _CARD[1]), _PAPER)
    for k, card in enumerate(cards):
        sheet.paste(card, (k % columns * _CARD[0], k // columns * _CARD[1]))
    facts = PngInfo()
    for name, value in PICTURE_METADATA.items():
        facts.add_text(name, value)
    sheet.save(path, format="PNG", optimize=True, pnginfo=facts)


def as_html(picture: Image.Image) -> str:
    """Return an HTML element that holds a picture."""
    data = io.BytesIO()
    picture.save(data, "PNG")
    return f'<img src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}">'


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
