"""Write whole-image targets of a user's own images as a local Hugging Face dataset for other training scripts.

A target describes the whole image, whatever the script crops. `MultiLabelImageNet` computes a target per crop.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from mlimagenet_data.annotations.locate import split_folder
from mlimagenet_data.annotations.schema import shard_name
from mlimagenet_data.annotations.shards import Source, annotation_files, find_annotations
from mlimagenet_data.classes import NUM_CLASSES, imagenet_classes
from mlimagenet_data.dataset import Missing, MultiLabelImageNet
from mlimagenet_data.errors import ImageError, StateError
from mlimagenet_data.files.inside import resolve_inside
from mlimagenet_data.files.outputs import OutputFolder
from mlimagenet_data.files.reading import open_regular
from mlimagenet_data.labelling.policy import LabelPolicy
from mlimagenet_data.labelling.targets import label_view, multi_hot, soft

__all__ = ["WholeTarget", "materialize", "splits_in"]

WholeTarget = Literal["multi_hot", "soft"]
_VECTORS = {"multi_hot": multi_hot, "soft": soft}
_TYPES = {"multi_hot": "bool", "soft": "float32"}  # value types: 125 and 4000 bytes per row in the readers' Arrow cache
_SHARD = re.compile(r"(?P<split>.+)-\d{5,}-of-\d{5,}\.parquet")
_GROUP_ROWS = 500
_FILE_ROWS = {False: 50_000, True: 5_000}  # without and with the images' bytes, by `embed`


def materialize(
    root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    annotations: Source | None = None,
    split: str = "train",
    target: WholeTarget = "multi_hot",
    policy: LabelPolicy | None = None,
    missing: Missing = "error",
    embed: bool = False,
    progress: bool = False,
) -> int:
    """Write a Hugging Face dataset of images and whole-image targets, and return its number of rows.

    Args:
        root: As for `MultiLabelImageNet`.
        out: Output folder for `data/{split}-*.parquet`, new, empty or from an earlier call. Earlier shards of the
            split are replaced; other splits are kept.
        annotations: As for `MultiLabelImageNet`.
        split: Name of the split.
        target: Values of the `target` column: `multi_hot` (whether the image shows the class) or `soft` (the class's
            score as float32, 0 if the image does not show it).
        policy: As for `MultiLabelImageNet`; only its rules for unlocated and original labels affect a whole image.
        missing: As for `MultiLabelImageNet`.
        embed: Store the image files' bytes in the dataset instead of their absolute paths.
        progress: Show a progress bar if standard error is a terminal.

    Raises:
        ImageError: If an image file is missing, empty, no regular file, or cannot be opened. The message names the
            file, its row and the image_id; nothing is written.
        OutsideError: With `embed`, if a link leads out of the image folder.
        AnnotationsNotFoundError: If there are no annotations.
        ImportError: If the package `datasets` is not installed.
        OutputError: If `out` overlaps the images or the annotations, holds files that this function did not write, or
            is in use by another call for this split.
        ValueError: If `target` is unknown, there are no images or no labels, or another split in `out` has the other kind
            of target.
    """
    if target not in get_args(WholeTarget):
        raise ValueError(f"target: {target!r} is unknown; it must be {' or '.join(get_args(WholeTarget))}")
    schema = _features(target).arrow_schema
    source = find_annotations(root, annotations)
    annotation_files(source, split)  # a split that does not exist is the plainer error
    folder = OutputFolder.open(Path(out), "materialized dataset", inputs=[split_folder(root, split), *_local(source)])
    _check_shards(folder, split, schema)
    dataset = MultiLabelImageNet(root, split=split, annotations=source, policy=policy, missing=missing)
    if not len(dataset):
        raise ValueError(
            f"{dataset.image_folder}: holds none of the {len(dataset.store)} annotated images of split {split}; "
            "it must be the folder of a copy of these images"
        )
    with folder.sole_run(f"materialize-{split}") as scratch:
        files = _write_shards(dataset, scratch, schema, target, embed, progress)
        with folder.locked():
            _check_shards(folder, split, schema)  # another split may have been written meanwhile
            folder.install(files, replaces=[f"data/{file.name}" for file in _shards(folder.path / "data", split)])
    return len(dataset)


def _write_shards(
    dataset: MultiLabelImageNet, scratch: Path, schema: pa.Schema, target: WholeTarget, embed: bool, progress: bool
) -> dict[str, Path]:
    """Write the shards into a folder, and return each by its name in the dataset; raise ValueError without labels."""
    size = _FILE_ROWS[embed]
    count = -(-len(dataset) // size)
    names = [shard_name(dataset.split, shard, count) for shard in range(count)]
    labels = 0
    with _bar(len(dataset), progress) as bar:
        for shard, name in enumerate(names):
            rows = range(shard * size, min((shard + 1) * size, len(dataset)))
            groups = ([_row(dataset, index, target, embed) for index in group] for group in _groups(rows))
            labels += _write(scratch / name, schema, groups, bar)
    if not labels:
        raise ValueError(f"{dataset.store.source}: no image of split {dataset.split} has a label; nothing to train on")
    return {f"data/{name}": scratch / name for name in names}


def _local(source: Source) -> list[Path]:
    """Return the files and folders of annotations that are not on the Hub."""
    named = [source] if isinstance(source, str | os.PathLike) else source
    return [Path(path) for path in named if Path(path).exists()]


def _features(target: WholeTarget) -> Any:
    try:
        from datasets import ClassLabel, Features, Image, List, Value
    except ImportError as error:
        raise ImportError(
            f"materialize requires datasets 4.0 or later; run pip install 'datasets>=4.0': {error}"
        ) from error

    label = ClassLabel(names=list(imagenet_classes().names))
    return Features(
        {"image": Image(), "labels": List(label), "target": List(Value(_TYPES[target]), length=NUM_CLASSES)}
    )


def _shards(folder: Path, split: str | None = None) -> list[Path]:
    """Return the shards of a split; without a split, all Parquet files."""
    found = [(file, _SHARD.fullmatch(file.name)) for file in sorted(folder.glob("*.parquet"))]
    return [file for file, match in found if split is None or (match and match["split"] == split)]


def splits_in(out: str | os.PathLike[str]) -> list[str]:
    """Return the names of the splits that `materialize` wrote to a folder."""
    matches = (_SHARD.fullmatch(file.name) for file in _shards(Path(out) / "data"))
    return sorted({match["split"] for match in matches if match})


def _check_shards(folder: OutputFolder, split: str, schema: pa.Schema) -> None:
    """Refuse foreign shards, and splits that would have different columns."""
    own, found = _shards(folder.path / "data", split), _shards(folder.path / "data")
    folder.check(*(f"data/{file.name}" for file in found))
    for file in found:
        if file in own:
            continue
        try:
            existing = pq.read_schema(file)
        except (pa.ArrowException, OSError) as error:
            raise StateError(f"{file}: damaged: {error}; remove it, and materialize its split again") from error
        if existing.names != schema.names or existing.types != schema.types:
            kind = existing.field("target").type if "target" in existing.names else "none"
            raise ValueError(
                f"{file}: its targets are of the other kind ({kind}), but all splits of a dataset must have the same "
                "columns; choose the same target, or another folder as out"
            )


def _write(path: Path, schema: pa.Schema, groups: Iterable[list[dict[str, Any]]], bar: Any) -> int:
    """Write a shard; return its number of labels."""
    labels = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for items in groups:
            writer.write_table(pa.Table.from_pylist(items, schema=schema))
            bar.update(len(items))
            labels += sum(len(item["labels"]) for item in items)
    return labels


def _groups(rows: range) -> Iterator[range]:
    for start in range(0, len(rows), _GROUP_ROWS):
        yield rows[start : start + _GROUP_ROWS]


def _row(dataset: MultiLabelImageNet, index: int, target: WholeTarget, embed: bool) -> dict[str, Any]:
    record = dataset.record(index)
    path = os.path.abspath(dataset.path(index))
    if embed:  # annotations and links must not choose which files are copied
        resolve_inside(dataset.image_folder, os.path.relpath(path, os.path.abspath(dataset.image_folder)))
    try:
        content = _content(path, embed)
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        hint = "; pass missing='skip' to skip images without a file" if gone else ""
        raise ImageError(
            f"{path}: {error.strerror or error} (row {index} of split {dataset.split}, image {record.image_id}){hint}",
            status="missing" if gone else "unreadable",
        ) from error
    vector = _VECTORS[target](label_view(record, dataset.policy))
    return {
        "image": {"bytes": content, "path": os.path.basename(path) if embed else path},
        "labels": vector.nonzero()[0].tolist(),
        "target": vector.astype(_TYPES[target]),
    }


def _content(path: str, wanted: bool) -> bytes | None:
    with open_regular(path) as file:
        if not os.fstat(file.fileno()).st_size:
            raise OSError("the file is empty")
        return file.read() if wanted else None


def _bar(total: int, shown: bool) -> Any:
    from tqdm.auto import tqdm  # installed with huggingface-hub

    return tqdm(total=total, unit="image", disable=None if shown else True)
