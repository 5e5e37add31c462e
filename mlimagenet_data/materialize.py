"""Writes image-level targets beside a user's own images, in the form that other people's training scripts read.

    python -m mlimagenet_data.materialize path/to/imagenet materialized --annotations mlimagenet

The result is a local Hugging Face dataset with the columns `image`, `labels` (class indices) and `target` (1000 numbers). timm's
own train.py reads it as it is: `--dataset hfds/materialized --task multilabel --target-key labels`, or, for soft targets,
`--target-key target --target-format multihot`. By default it holds the images' paths, not their bytes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from mlimagenet_data.classes import NUM_CLASSES, imagenet_classes
from mlimagenet_data.dataset import MultiLabelImageNet
from mlimagenet_data.errors import ImageError
from mlimagenet_data.labels import LabelPolicy, label_view, multi_hot, soft
from mlimagenet_data.schema import shard_name
from mlimagenet_data.store import Source

__all__ = ["materialize"]

_GROUP_ROWS = 500
_FILE_ROWS = 50_000


def materialize(
    root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    annotations: Source | None = None,
    split: str = "train",
    target: Literal["multi_hot", "soft"] = "multi_hot",
    policy: LabelPolicy | None = None,
    embed: bool = False,
    progress: bool = False,
) -> int:
    """Write a Hugging Face dataset of images and whole-image targets, and return its number of rows.

    Args:
        root: As for `MultiLabelImageNet`.
        out: The folder to write; `data/{split}-*.parquet` in it. Existing shards of the split are replaced.
        annotations: As for `MultiLabelImageNet`.
        split: Name of the split.
        target: What `target` holds: 1, or the class's score, for each class of the image, else 0.
        policy: As for `MultiLabelImageNet`; for a whole image only its rules for unlocated and original labels matter.
        embed: Copy the image files' bytes into the dataset instead of their absolute paths.
        progress: Show a progress bar.

    Raises:
        ImageError: If an image file is not there.
        AnnotationsNotFoundError: If there are no annotations.
        ValueError: If `target` is neither.
    """
    if target not in ("multi_hot", "soft"):
        raise ValueError(f"target must be multi_hot or soft, got {target!r}")
    dataset = MultiLabelImageNet(root, split=split, annotations=annotations, policy=policy)
    folder = Path(out) / "data"
    folder.mkdir(parents=True, exist_ok=True)
    shards = max(1, -(-len(dataset) // _FILE_ROWS))
    schema = _features().arrow_schema
    with _bar(len(dataset), progress) as bar:
        temporaries = []
        for shard in range(shards):
            temporary = folder / f".{shard_name(split, shard, shards)}.tmp"
            rows = range(shard * _FILE_ROWS, min((shard + 1) * _FILE_ROWS, len(dataset)))
            with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
                for group in _groups(rows):
                    items = [_row(dataset, index, target, embed) for index in group]
                    writer.write_table(pa.Table.from_pylist(items, schema=schema))
                    bar.update(len(items))
            temporaries.append(temporary)
    for old in folder.glob(f"{split}-*.parquet"):
        old.unlink()
    for shard, temporary in enumerate(temporaries):
        os.replace(temporary, folder / shard_name(split, shard, shards))
    return len(dataset)


def _features() -> Any:
    from datasets import ClassLabel, Features, Image, List, Value

    label = ClassLabel(names=list(imagenet_classes().names))
    return Features({"image": Image(), "labels": List(label), "target": List(Value("float32"), length=NUM_CLASSES)})


def _groups(rows: range) -> Iterator[range]:
    for start in range(0, len(rows), _GROUP_ROWS):
        yield rows[start : start + _GROUP_ROWS]


def _row(dataset: MultiLabelImageNet, index: int, target: str, embed: bool) -> dict[str, Any]:
    path = os.path.abspath(dataset.path(index))
    if not os.path.isfile(path):
        raise ImageError(f"{path}: no such file", status="missing")
    labels = label_view(dataset.record(index), dataset.policy)
    vector = soft(labels) if target == "soft" else multi_hot(labels)
    image = (
        {"bytes": Path(path).read_bytes(), "path": os.path.basename(path)} if embed else {"bytes": None, "path": path}
    )
    return {"image": image, "labels": vector.nonzero()[0].tolist(), "target": vector}


def _bar(total: int, shown: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, unit="image", disable=not shown)


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m mlimagenet_data.materialize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", help="the ImageNet folder (with train/, val/), or the split folder itself")
    parser.add_argument("out", help="the folder to write")
    parser.add_argument("--annotations", help="dataset folder or Hub id (default: as MultiLabelImageNet finds it)")
    parser.add_argument("--split", default="train", help="name of the split (default: train)")
    parser.add_argument(
        "--target", choices=["multi_hot", "soft"], default="multi_hot", help="what the column target holds"
    )
    parser.add_argument(
        "--embed", action="store_true", help="copy the image files into the dataset instead of their paths"
    )
    options = parser.parse_args(arguments)
    rows = materialize(
        options.root,
        options.out,
        annotations=options.annotations,
        split=options.split,
        target=options.target,
        embed=options.embed,
        progress=True,
    )
    print(
        f"{rows} images in {options.out}; timm reads it with --dataset hfds/{options.out} --target-key labels --task multilabel"
    )


if __name__ == "__main__":
    main()
