"""Convert annotations in other formats to a dataset folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlimagenet_data.annotations.locate import ImageListing, split_folder
from mlimagenet_data.annotations.shards import HUB_PREFIX
from mlimagenet_data.annotations.writer import DatasetWriter, tables_of
from mlimagenet_data.errors import AnnotationError, AnnotationsNotFoundError
from mlimagenet_data.files.reading import file_hash, version_of
from mlimagenet_data.formats.coco import read_coco
from mlimagenet_data.formats.faults import Faults
from mlimagenet_data.formats.imagenet_s import read_class_list, read_imagenet_s
from mlimagenet_data.formats.mask_store import MaskStore
from mlimagenet_data.formats.published import published_files, read_published
from mlimagenet_data.formats.sizes import with_sizes
from mlimagenet_data.formats.tsv import read_tsv
from mlimagenet_data.names import join_key

__all__ = ["FORMS", "Form", "Import", "import_annotations"]

Form = Literal["tsv", "published", "coco", "imagenet-s"]
FORMS: tuple[str, ...] = get_args(Form)
_PART_ROWS = 2000
_SOFT = ("tsv", "published")  # forms with soft labels

# licence, creators (both in the Hub's vocabulary), note
_ABOUT = {
    "tsv": (
        "unknown",
        "machine-generated",
        "labels in the paper's format, multilabel_annotations.tsv (arXiv 2603.05729)",
    ),
    "published": (
        "unknown",
        "machine-generated",
        "labels in the form of the Hub's k3999/multilabel-imagenet-1k (arXiv 2603.05729)",
    ),
    "coco": ("unknown", "found", "from COCO instance JSON"),
    "imagenet-s": ("unknown", "expert-generated", "regions from ImageNet-S's semantic masks (arXiv 2106.03149)"),
}


@dataclass(frozen=True)
class Import:
    """An import: its source, format and options.

    Attributes:
        source: The file, or the folder of masks; for `published` also a folder of Parquet files or `hf:USER/NAME`.
        form: The format of the source.
        out: The dataset folder to write.
        split: The split to write.
        images: The split's image folder, or its parent. Sizes are read from it, and missing files are recorded.
        proposals: For `tsv`: COCO JSON of class-agnostic masks to turn into regions.
        region_classes: With `proposals`: the authors' `relabel_results_job_*.pt`, which name the masks by their ids.
        classes: For `imagenet-s`: the list of WordNet ids.
        skip_bad: Whether to skip and count invalid lines and entries.
        min_score: For `tsv` and `published`: leave out labels that score lower, the original label aside, and count them.
    """

    source: Path
    form: Form
    out: Path
    split: str = "train"
    images: Path | None = None
    proposals: Path | None = None
    classes: Path | None = None
    skip_bad: bool = False
    min_score: float = 0.0
    region_classes: tuple[Path, ...] = ()


def import_annotations(given: Import, advance: Callable[[int], object] = lambda count: None) -> dict[str, Any]:
    """Import annotations; return the split's part of the manifest.

    Args:
        given: The import.
        advance: Called with the number of bytes (`tsv`) or rows read since the last call.

    Raises:
        AnnotationsNotFoundError: If a file or folder does not exist.
        AnnotationError: If the options do not fit the format, `out` already has the split, or, without `skip_bad`, a
            line or entry is invalid; the message names file, line or entry, field and value.
        OutputError: If `out` overlaps an input, or holds files that no import wrote.
    """
    _check_options(given)
    faults = Faults(skip=given.skip_bad)
    folder = None if given.images is None else split_folder(given.images, given.split)
    inputs = [
        path
        for path in (None if _is_on_hub(given) else given.source, given.proposals, given.classes, folder)
        if path is not None
    ]
    with DatasetWriter(given.out, given.split, inputs) as writer:
        rows = found = 0
        images = None if folder is None else ImageListing(folder)
        below = Counter[str]()
        for table in _tables(given, faults, advance, below):
            sized = table
            if images is not None and table.num_rows:
                sized = with_sizes(table, images)
                found += sized.num_rows - sized["height"].null_count
            writer.add(sized)
            rows += table.num_rows
        if not rows:
            skipped = f"; all {faults.count} entries are invalid: {faults.messages[0]}" if faults.count else ""
            raise AnnotationError(f"{given.source}: holds no annotated images{skipped}")
        if given.images is not None and not found:
            raise AnnotationError(f"{given.images}: none of the images in {given.source} exist here")
        licence, creators, note = _ABOUT[given.form]
        about = _provenance(given, faults) | {"labels_below_min_score": below.total()}
        return writer.finish(about, licence=licence, creators=creators, note=note)


def _check_options(given: Import) -> None:
    for name, forms in (("proposals", _SOFT), ("classes", ("imagenet-s",))):
        if getattr(given, name) is not None and given.form not in forms:
            raise AnnotationError(f"--{name} requires --from {' or '.join(forms)}")
    if given.form == "imagenet-s" and given.classes is None:
        raise AnnotationError(
            "--from imagenet-s needs --classes FILE, the list of WordNet ids (ImageNetS_categories_im919.txt)"
        )
    if given.region_classes and given.proposals is None:
        raise AnnotationError("--region-classes names the masks of --proposals; give both")
    if given.min_score and given.form not in _SOFT:
        raise AnnotationError(f"--min-score requires --from {' or '.join(_SOFT)}")
    if not 0 <= given.min_score <= 1:
        raise AnnotationError(f"--min-score must be between 0 and 1, got {given.min_score}")
    source = None if given.form == "published" else given.source
    for path in (source, given.proposals, *given.region_classes, given.classes):
        is_folder = given.form == "imagenet-s" and path == given.source
        if path is not None and not (path.is_dir() if is_folder else path.is_file()):
            raise AnnotationsNotFoundError(f"{path}: no such {'folder' if is_folder else 'file'}")


def _tables(given: Import, faults: Faults, advance: Callable[[int], object], below: Counter[str]) -> Iterator[pa.Table]:
    if given.form in _SOFT:
        if given.form == "tsv":
            tables = read_tsv(given.source, faults, advance)
        else:
            tables = read_published(published_files(str(given.source), given.split), faults, advance)
        tables = (_without_low(table, given.min_score, below) for table in tables)
        yield from tables if given.proposals is None else _with_proposals(tables, given, faults)
        return
    if given.form == "coco":
        rows = read_coco(given.source, faults)
    else:
        assert given.classes is not None
        rows = read_imagenet_s(given.source, read_class_list(given.classes), faults)
    for table in tables_of(rows):
        advance(table.num_rows)
        yield table


def _without_low(table: pa.Table, least: float, below: Counter[str]) -> pa.Table:
    """Leave out labels that score less than `least`, the original label aside, and count them."""
    if not least or not table.num_rows:
        return table
    labels, scores = (table[name].combine_chunks() for name in ("labels", "scores"))
    lengths = pc.list_value_length(labels).to_numpy().astype(np.int64)
    values, numbers = (pc.list_flatten(lists).to_numpy() for lists in (labels, scores))
    rows = np.repeat(np.arange(len(lengths)), lengths)
    kept = (numbers >= np.float32(least)) | (values == table["label"].to_numpy()[rows])
    below["labels"] += int((~kept).sum())
    offsets = pa.array(
        np.concatenate(([0], np.cumsum(np.bincount(rows[kept], minlength=len(lengths))))).astype(np.int32)
    )
    for name, flat in (("labels", values), ("scores", numbers)):
        lists = pa.ListArray.from_arrays(offsets, pa.array(flat[kept]))
        table = table.set_column(table.schema.get_field_index(name), name, lists)
    return table


def _is_on_hub(given: Import) -> bool:
    return str(given.source).startswith(HUB_PREFIX)


def _with_proposals(tables: Iterator[pa.Table], given: Import, faults: Faults) -> Iterator[pa.Table]:
    assert given.proposals is not None
    with MaskStore(given.proposals, given.region_classes, faults) as masks:
        rows = matched = regions = 0
        parts = (table.slice(k, _PART_ROWS) for table in tables for k in range(0, table.num_rows, _PART_ROWS))
        for table in parts:  # a block of lines may be of 200,000 images, whose masks would fill the memory
            made = from_proposals(table, masks)
            rows += table.num_rows
            matched += sum(masks.holds(join_key(image_id)) for image_id in table["image_id"].to_pylist())
            regions += pc.sum(pc.list_value_length(made["regions"])).as_py() if table.num_rows else 0
            yield made
        if rows and not regions:
            raise AnnotationError(
                f"{given.proposals}: none of its {masks.masks} masks belongs to an image with labels in {given.source}; "
                f"{matched} of its {masks.images} images are there"
            )


def from_proposals(table: pa.Table, masks: MaskStore) -> pa.Table:
    """Add masks to rows of the paper's file.

    A mask that no file names may show any of the image's labels. Such a region gets the best label of its image and an
    empty top-k list, so the loader treats no label as located. Images without labels get no regions.
    """
    rows = table.to_pylist()
    for row in rows:
        found = masks.of(join_key(row["image_id"])) if row["labels"] else None
        size = {"height": None, "width": None} if found is None else {name: found[name] for name in ("height", "width")}
        row.update(size, regions=[])
        for region in found["regions"] if found else []:
            unnamed = {"label": row["labels"][0], "score": row["scores"][0], "topk_labels": [], "topk_scores": []}
            row["regions"].append({**unnamed, **region})
        row["status"] = "ok" if row["regions"] else "no_regions"
    parts = list(tables_of(rows))
    return pa.concat_tables(parts) if parts else table


def _provenance(given: Import, faults: Faults) -> dict[str, Any]:
    paths = (given.source, given.proposals, *given.region_classes, given.classes)
    files = [path for path in paths if path is not None and path.is_file()]
    return {
        "form": given.form,
        "source": given.source.name,
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": file_hash(path)} for path in files},
        "sizes_from_images": given.images is not None,
        "left_out": faults.count,
        "faults": [_without_folder(message, given) for message in faults.messages],
        "mlimagenet-data": version_of("mlimagenet-data"),
    }


def _without_folder(message: str, given: Import) -> str:
    """Remove the folder from the path that a message begins with, since the manifest is published."""
    for path in (given.source, given.proposals, given.classes):
        if path is not None and path.name and message.startswith(str(path)):
            return path.name + message[len(str(path)) :]
    return message
