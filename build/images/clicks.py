"""Reader of ImageNet-AB: the clicks on objects from a second annotation of ImageNet.

Han et al., "Neglected Free Lunch - Learning Image Classifiers Using Annotation Byproducts", arXiv 2303.17595. A file
`<wnid>/<stem>.xml` holds one `metadata` element per time that the image was shown. If its `selected` is True, its
`selectedRecord` holds the click's x and y, as shares of the image's width and height.
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree.ElementTree import Element

from mlimagenet_data.files.printing import printable
from mlimagenet_data.files.reading import is_transient, read_xml

__all__ = ["ByproductError", "Click", "read_clicks"]

Click = tuple[float, float]  # (x, y), shares of width and height in [0, 1]

_LARGEST = 4_000_000  # bytes per file; mouse traces make up most of it
_MOST = 1000  # clicks per file


class ByproductError(ValueError):
    """A missing or unusable file of clicks.

    Attributes:
        status: `missing`, `damaged`, or `inaccessible` if the system could not read the file this time.
    """

    def __init__(self, message: str, *, status: str) -> None:
        super().__init__(message)
        self.status = status


def read_clicks(folder: Path, image_id: str) -> list[Click]:
    """Return the clicks on an image; empty if no annotator selected it.

    Raises:
        ByproductError: If the file is missing or cannot be opened, exceeds 4 MB, is not XML, declares entities, or
            holds a click outside the image.
    """
    path = folder / f"{image_id}.xml"
    try:
        root = read_xml(path, _LARGEST)
        return [_click(entry) for entry in root.findall("metadata")[:_MOST] if _text(entry, "selected") == "True"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ByproductError(f"{printable(str(path))}: no such file", status="missing") from error
    except (OSError, ValueError) as error:
        status = "inaccessible" if isinstance(error, OSError) and is_transient(error) else "damaged"
        reason = printable(str(error).removeprefix(f"{path}: ")[:200])
        raise ByproductError(f"{printable(str(path))}: {reason}", status=status) from error


def _text(entry: Element, name: str) -> str:
    found = entry.find(name)
    return "" if found is None else (found.text or "").strip()


def _click(entry: Element) -> Click:
    record = entry.find("selectedRecord")
    if record is None:
        raise ValueError("a selected entry has no selectedRecord")
    x, y = (float(_text(record, name)) for name in ("x", "y"))
    if not (math.isfinite(x) and math.isfinite(y) and 0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f"selectedRecord: ({x}, {y}) is outside the image; coordinates must be between 0 and 1")
    return x, y
