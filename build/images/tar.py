"""Tar files in WebDataset form: samples `<key>.jpg`, `<key>.cls`, `<key>.json`."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from build.config.options import ConfigError
from build.images.containers import check_class, check_path
from build.images.listing import ImageInput
from mlimagenet_data.images import IMAGE_EXTENSIONS
from mlimagenet_data.names import class_of_path, image_id_of

__all__ = ["list_tar"]

_MOST_TEXT = 1_000_000  # bytes of a WebDataset sample's .cls or .json


def list_tar(root: Path, file: Path) -> Iterator[ImageInput]:
    """List a tar file of samples <key>.jpg, <key>.cls and <key>.json, in file order."""
    info = os.stat(file)
    sample: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
    key = ""
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                name = check_path(member.name, file)
                folder, _, base = name.rpartition("/")
                stem, _, extension = base.partition(".")
                own = f"{folder}/{stem}" if folder else stem
                if own != key:
                    yield from _sample(root, file, key, sample, info.st_mtime_ns)
                    key, sample = own, {}
                text = b""
                if extension in ("cls", "json") and member.size <= _MOST_TEXT:
                    text = (archive.extractfile(member) or io.BytesIO()).read()
                sample[f".{extension.lower()}"] = (member, text)
        yield from _sample(root, file, key, sample, info.st_mtime_ns)
    except tarfile.TarError as error:
        raise ConfigError(f"images: {file}: unreadable as an uncompressed tar file: {error}") from error


def _sample(
    root: Path, file: Path, key: str, sample: dict[str, tuple[tarfile.TarInfo, bytes]], modified: int
) -> Iterator[ImageInput]:
    extension = next((e for e in sample if e.endswith(IMAGE_EXTENSIONS)), None)
    if extension is None:
        return
    member, _ = sample[extension]
    try:
        facts = json.loads(sample[".json"][1] or b"{}") if ".json" in sample else {}
        if not isinstance(facts, dict):
            raise ValueError(f"the .json must hold an object, found {str(facts)[:80]}")
        value = int(sample[".cls"][1]) if ".cls" in sample else facts.get("label")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"images: {file}: {key}: unreadable .cls or .json: {error}") from error
    own = check_path(member.name, file)
    named = [
        facts[field] for field in ("filename", "file_name") if isinstance(facts.get(field), str)
    ]  # our own export writes file_name
    name = check_path(named[0], file) if named else own
    known = (check_class(value, file, key), class_of_path(name), class_of_path(own))
    label = next((index for index in known if index is not None), None)
    container = file.relative_to(root).as_posix()
    stamp = (member.size, modified)
    yield ImageInput(image_id_of(name, label), own, label, stamp, container, member.offset_data)
