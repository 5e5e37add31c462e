"""The 1000 classes of ImageNet-1k (ILSVRC 2012): wnid, index and a unique English name.

Indices follow the sorted wnids, as torchvision, timm and the Hugging Face Hub number them. Names are the first lemma of
each WordNet 3.0 synset, with a qualifier in parentheses where two classes share one (crane, maillot).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass
from importlib import resources

__all__ = ["NUM_CLASSES", "ClassTable", "class_of_folder", "imagenet_classes", "kinds", "match_classes"]

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


@functools.cache
def kinds() -> dict[str, tuple[int, ...]]:
    """Return the classes of each kind: by the plain name of a WordNet hypernym or synonym, sorted by name."""
    text = resources.files("mlimagenet_data").joinpath("imagenet_hypernyms.tsv").read_text(encoding="utf-8")
    lemmas, above = {}, {}
    for line in text.splitlines():
        wnid, names, parents = line.split("\t")
        lemmas[wnid], above[wnid] = names.split("|"), parents.split()
    found: dict[str, set[int]] = {}
    for index, wnid in enumerate(imagenet_classes().wnids):
        waiting, seen = [wnid], set()
        while waiting:
            here = waiting.pop()
            if here not in seen:
                seen.add(here)
                waiting += above[here]
                for lemma in lemmas[here]:
                    found.setdefault(_plain(lemma), set()).add(index)
    return {name: tuple(sorted(found[name])) for name in sorted(found)}


def match_classes(text: str) -> list[int]:
    """Return the classes that a text names, best first; none if it names none.

    A class's own name stands for that class alone. Otherwise come the classes of a WordNet kind (all dogs for "dog"), then
    those with a name, or of a kind, in which a word starts with the text, then those whose name contains it. Case,
    accents, hyphens and a plural's s do not matter. The page of `mlimagenet view` ranks in the same way (search.js).
    """
    wanted = _plain(text)
    if not wanted:
        return []
    names = [_plain(name) for name in imagenet_classes().names]
    if wanted not in kinds() and wanted not in names:
        singular = [re.sub(f"{end}$", instead, wanted) for end, instead in (("ies", "y"), ("es", ""), ("s", ""))]
        wanted = next((word for word in singular if word in kinds()), wanted)
    exact = [index for index, name in enumerate(names) if name == wanted]
    if exact:
        own = [index for index, name in enumerate(imagenet_classes().names) if name == text.strip()]
        return own or exact
    start = f" {wanted}"
    found = [
        *kinds().get(wanted, ()),
        *(index for index, name in enumerate(names) if start in f" {name}"),
        *(index for name, indices in kinds().items() if start in f" {name}" for index in indices),
        *(index for index, name in enumerate(names) if wanted in name),
    ]
    return list(dict.fromkeys(found))


def _plain(text: str) -> str:
    """Return a name in lower case, without accents, with single spaces for hyphens, underscores and white space."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub(r"[-_\s]+", " ", bare.lower()).strip()
