"""The 1000 classes of ImageNet-1k (ILSVRC 2012): wnid, index and a unique English name.

Indices follow the sorted wnids, as torchvision, timm and the Hugging Face Hub number them. Names are the first lemma of each
WordNet 3.0 synset, with an addition in parentheses where two classes share it (crane, maillot).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources

__all__ = ["NUM_CLASSES", "ClassTable", "class_of_folder", "imagenet_classes"]

NUM_CLASSES = 1000


@dataclass(frozen=True)
class ClassTable:
    """Classes in index order.

    Attributes:
        wnids: WordNet ids, `n` and 8 digits; unique.
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
    """Return the class that a folder's name says, as a wnid or as an index without leading zeros; None if it says none."""
    table = imagenet_classes()
    if name in table.wnid_to_index:
        return table.wnid_to_index[name]
    if name.isascii() and name.isdigit() and name == str(int(name)) and int(name) < len(table):
        return int(name)
    return None
