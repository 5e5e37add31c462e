"""What a dataset folder holds beside its shards: the card, whose YAML metadata lets `load_dataset` read the shards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mlimagenet_data.annotations.schema import features
from mlimagenet_data.classes import ClassTable
from mlimagenet_data.files.reading import file_hash

__all__ = ["card_text", "companion_files"]


def companion_files(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the manifest's `files`: the SHA-256 and bytes of each file that is published beside the shards.

    Args:
        folder: The dataset folder.
        names: The files' names in it, without shards and the manifest itself.
    """
    found = {}
    for name in sorted(names):
        path = folder / name
        found[name] = {"sha256": file_hash(path), "bytes": path.stat().st_size}
    return found


def card_text(
    body: str,
    splits: dict[str, Any],
    classes: ClassTable,
    *,
    embed_images: bool = False,
    licence: str = "apache-2.0",
    creators: Sequence[str] = ("machine-generated",),
    title: str = "Multi-label ImageNet",
) -> str:
    """Return a README.md: the YAML metadata, followed by `body`.

    Args:
        body: Markdown.
        splits: The build manifest's splits: for each, its number of `rows` and its `files` with their `bytes`.
        classes: The label space.
        embed_images: Whether the rows have an `image` column.
        licence: The Hub's identifier of the annotations' licence.
        creators: The Hub's identifiers of the annotations' creators.
        title: The dataset's name for people.
    """
    metadata = _metadata(splits, classes, embed_images, licence, creators, title).to_yaml()
    return f"---\n{metadata}\n---\n{body}"


def _metadata(
    splits: dict[str, Any], classes: ClassTable, embed_images: bool, licence: str, creators: Sequence[str], title: str
) -> Any:
    from datasets import DatasetInfo, SplitDict, SplitInfo
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    infos = SplitDict()
    for name, split in sorted(splits.items()):
        size = sum(file["bytes"] for file in split["files"].values())
        infos.add(SplitInfo(name, num_bytes=size, num_examples=split["rows"]))
    info = DatasetInfo(features=features(classes, embed_images=embed_images), splits=infos)
    data = DatasetCardData(
        license=licence,
        task_categories=["image-classification", "image-segmentation"],
        tags=["multi-label", *(["imagenet"] if "ImageNet" in title else []), "region-grounded"],
        pretty_name=title,
        size_categories=[_size_category(sum(split["rows"] for split in splits.values()))],
        annotations_creators=list(creators),
        configs=[{
            "config_name": "default",
            "data_files": [{"split": name, "path": f"data/{name}-*.parquet"} for name in sorted(splits)],
        }],
    )  # fmt: skip
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    return data


def _size_category(rows: int) -> str:
    steps = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M")]
    return next((name for limit, name in steps if rows < limit), "10M<n<100M")
