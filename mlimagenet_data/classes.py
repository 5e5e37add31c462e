"""The 1000 classes of ImageNet-1k (ILSVRC 2012): wnid, index and a unique English name.

Indices follow the sorted wnids, as torchvision, timm and the Hugging Face Hub number them. Names are the first lemma of
each WordNet 3.0 synset, with a qualifier in parentheses where two classes share one (crane, maillot).
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from importlib import resources

from mlimagenet_data.errors import MLImageNetError

__all__ = ["NUM_CLASSES", "ClassTable", "class_of_folder", "find_class", "imagenet_classes"]

NUM_CLASSES = 1000


@dataclass(frozen=True)
class ClassTable:
    """Classes in index order.

    Attributes:
        wnids: WordNet ids: `n` followed by 8 digits; unique.
        names: English names; unique.
    """

    wnids: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.wnids)

    @functools.cached_property
    def wnid_to_index(self) -> dict[str, int]:
        """Class index of each wnid."""
        return {wnid: index for index, wnid in enumerate(self.wnids)}


@functools.cache
def imagenet_classes() -> ClassTable:
    """Return the table of ImageNet-1k's 1000 classes."""
    text = resources.files("mlimagenet_data").joinpath("imagenet_classes.tsv").read_text(encoding="utf-8")
    wnids, names = zip(*(line.split("\t") for line in text.splitlines()), strict=True)
    return ClassTable(wnids=wnids, names=names)


def class_of_folder(name: str) -> int | None:
    """Return the class that a folder's name states: a wnid or an index without leading zeros; None for other names."""
    table = imagenet_classes()
    if name in table.wnid_to_index:
        return table.wnid_to_index[name]
    if len(name) <= 3 and name.isascii() and name.isdigit() and name == str(int(name)):
        return int(name)
    return None


def find_class(text: str) -> int:
    """Return the class with a given name, WordNet id or index.

    Case matters only between `Cardigan` (a dog) and `cardigan`.

    Raises:
        MLImageNetError: If there is no such class; the message suggests similar names.
    """
    index, text = class_of_folder(text), text.strip()
    exact = {name: number for number, name in enumerate(imagenet_classes().names)}
    names = {name.lower(): number for name, number in exact.items()}
    if index is None:
        index = exact.get(text, names.get(text.lower()))
    if index is None:
        alike = difflib.get_close_matches(text.lower(), names, n=3, cutoff=0.5)
        alike += [name for name in names if text.lower() in name and name not in alike][:3]
        hint = f"; did you mean {', '.join(alike)}?" if alike else ""
        raise MLImageNetError(f"{text!r} is not an ImageNet class; it must be a name, WordNet id or index{hint}")
    return index
