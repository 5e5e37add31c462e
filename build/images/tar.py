"""Tar files in WebDataset form: samples `<key>.jpg`, `<key>.cls`, `<key>.json`.

A sample's files are adjacent and share their name up to the first dot, the key. Each image file of a sample is an image
of its own. `<key>.cls` and `<key>.json` hold for all images of the sample, `<key>.<more>.cls` for `<key>.<more>.jpg`.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from build.config.options import ConfigError
from build.images.containers import NO_LABELS, Container, agreed_class, check_class, check_path
from build.images.listing import ODD_NAMES, ImageInput, Images, other_file
from build.images.tar_members import TarMember, TarReader
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.files.printing import shown
from mlimagenet_data.files.reading import parse_json
from mlimagenet_data.files.walk import MAC_METADATA, is_mac_metadata, is_text, note_examples
from mlimagenet_data.images import is_image_name
from mlimagenet_data.names import class_of_path, image_id_of, is_plain_path

__all__ = ["list_tar"]

_TEXTS = (".cls", ".json")
_INDEX = re.compile(rb"-?[0-9]{1,9}")
_MOST_TEXT = 1 << 24  # bytes of a .cls or .json


def list_tar(root: Path, file: Path, left_out: Counter[str], *, unlabelled: bool) -> Images:
    """List the images of a tar file, in file order.

    Args:
        root: The listing's root.
        file: A file below it.
        left_out: Counts what is not listed, by reason.
        unlabelled: Ignore labels.

    Raises:
        ConfigError: If the file is damaged, a name could leave its folder, a class is none of ImageNet-1k's, two parts
            of a sample state different classes, or the files of a sample with a .cls or .json are not adjacent.
    """
    container, structure = Container.of(root, file), hashlib.sha256()
    with TarReader(file, structure) as members:
        found = container.images(_Samples(members, container, left_out, unlabelled).rows(), structure)
        if not members.has_end:
            left_out["the end of a tar file, which is cut off"] += 1
    return found


@dataclass
class _Sample:
    """The files of a sample by name: images, and .cls and .json files."""

    key: str
    images: list[tuple[str, TarMember]] = field(default_factory=list)
    texts: dict[str, TarMember] = field(default_factory=dict)


@dataclass
class _Samples:
    """The samples of a tar file."""

    members: TarReader
    container: Container
    left_out: Counter[str]
    unlabelled: bool
    _earlier: dict[str, str | None] = field(default_factory=dict)  # by key: one of its texts

    def rows(self) -> Iterator[ImageInput]:
        """Yield the images in file order."""
        sample, not_text, odd = _Sample(""), list[str](), list[str]()
        for member in self.members:
            if is_mac_metadata(member.name):
                self.left_out[MAC_METADATA] += 1
            elif member.kind != "file":
                if member.kind != "folder":
                    self.left_out[f"{member.kind}s in tar files"] += 1
            elif not is_text(member.name):
                not_text.append(f"{self.container.name}: {member.name}")
            elif (name := check_path(member.name, self.container.file)) is None:
                odd.append(f"{self.container.name}: {member.name}")
            else:
                if _key(name) != sample.key:
                    yield from self._images(sample)
                    sample = _Sample(_key(name))
                self._add(sample, name, member)
        yield from self._images(sample)
        note_examples(self.left_out, "names that are not UTF-8", not_text)
        note_examples(self.left_out, ODD_NAMES, odd)

    def _add(self, sample: _Sample, name: str, member: TarMember) -> None:
        if is_image_name(name):
            sample.images.append((name, member))
        elif not name.lower().endswith(_TEXTS):
            self.left_out[other_file(name)] += 1
        elif name in sample.texts and not self.unlabelled:
            raise self._error(f"holds {shown(name)} twice; write it again with each file once, or {NO_LABELS}")
        else:
            sample.texts[name] = member

    def _images(self, sample: _Sample) -> Iterator[ImageInput]:
        """Yield the images of a sample that is complete."""
        self._check_whole(sample)
        facts = {} if self.unlabelled else {name: self._facts(name, sample.texts[name]) for name in sample.texts}
        used = set[str]()
        for name, member in sample.images:
            texts = [text for text in sample.texts if _stem(text) in (sample.key, _stem(name))]
            used.update(texts)
            if self.unlabelled:
                yield self._image(image_id_of(name, unlabelled=True), name, None, member, member.fault)
            else:
                known = [(text, facts[text]) for text in texts]
                yield self._labelled(name, member, known, alone=len(sample.images) == 1)
        if alone := len(sample.texts) - len(used):
            self.left_out[".cls and .json files without an image"] += alone

    def _check_whole(self, sample: _Sample) -> None:
        """Refuse a key that comes back later if it has a class, which would be lost."""
        text = next(iter(sample.texts), None)
        torn = text or self._earlier.get(sample.key)
        if sample.key in self._earlier and torn and not self.unlabelled:
            raise self._error(
                f"{shown(torn)} is not next to the other files of sample {shown(sample.key)}; write the tar file again, "
                f"sorted by name, or {NO_LABELS}"
            )
        self._earlier[sample.key] = torn

    def _labelled(self, name: str, member: TarMember, known: list[tuple[str, _Facts]], *, alone: bool) -> ImageInput:
        faults = [f"{text}: {found.fault}" for text, found in known if found.fault]
        named = next((found.name for _, found in known if found.name and alone), name)
        sides = [(shown(text), found.label) for text, found in known]
        paths = [(f"its path {shown(path)}", class_of_path(path)) for path in dict.fromkeys((named, name))]
        label = agreed_class(self.container.file, name, [*sides, *paths])
        return self._image(image_id_of(named, label), name, label, member, member.fault or next(iter(faults), None))

    def _image(self, image_id: str, name: str, label: int | None, member: TarMember, fault: str | None) -> ImageInput:
        size = member.size if fault is None else min(member.size, self.container.size)
        return self.container.image(image_id, name, label, size=size, position=member.position, fault=fault)

    def _facts(self, name: str, member: TarMember) -> _Facts:
        """Return what a .cls or .json states."""
        try:
            content = self.members.read(member, _MOST_TEXT).removeprefix(codecs.BOM_UTF8)
            value, named = _class_index(content) if name.lower().endswith(".cls") else _class_and_name(content)
        except ValueError as error:
            return _Facts(fault=str(error))
        return _Facts(check_class(value, self.container.file, name), named)

    def _error(self, reason: str) -> ConfigError:
        return ConfigError(f"images: {self.container.file}: {reason}")


@dataclass(frozen=True)
class _Facts:
    """What a .cls or .json states: a class, a file name, both or neither; or why it cannot be read."""

    label: int | None = None
    name: str | None = None
    fault: str | None = None


def _class_index(content: bytes) -> tuple[int, None]:
    text = content.strip()
    if _INDEX.fullmatch(text):
        return int(text), None
    if (label := imagenet_classes().wnid_to_index.get(text.decode("latin-1"))) is not None:
        return label, None
    raise ValueError(f"holds {shown(content)}, not a class index or the WordNet id of a class of ImageNet-1k")


def _class_and_name(content: bytes) -> tuple[int | None, str | None]:
    facts = parse_json(content)
    if not isinstance(facts, dict):
        raise ValueError(f"holds {shown(facts)}, not an object")
    label = facts.get("label")
    label = imagenet_classes().wnid_to_index.get(label, label) if isinstance(label, str) else label
    if label is not None and (isinstance(label, bool) or not isinstance(label, int)):
        raise ValueError(f"label {shown(label)} must be a class index")
    name = next((facts[key] for key in ("filename", "file_name") if isinstance(facts.get(key), str)), None)
    if name is None:
        return label, None
    path = str(PurePosixPath(name))
    if not (is_text(name) and name and is_plain_path(path)):
        raise ValueError(f"file name {shown(name)} must be a relative path that stays inside its folder")
    return label, path


def _key(name: str) -> str:
    """Return a name up to the first dot of its last part, dots at the start of that aside."""
    base = name.rpartition("/")[2].lstrip(".")
    return name[: len(name) - len(base)] + base.partition(".")[0]


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]
