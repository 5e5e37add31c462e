"""Fuzz the readers of third-party files; `benchmarks.fuzz` is its command line."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import ExifTags, Image
from rich.progress import track

from benchmarks.mutations import altered, mutated
from benchmarks.synthetic import write_annotations
from build.images.clicks import ByproductError, read_clicks
from mlimagenet_data.annotations.schema import arrow_schema
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.annotations.validate import check_batch, checked_batches
from mlimagenet_data.annotations.writer import complete_columns, tables_of
from mlimagenet_data.errors import AnnotationError, ImageError
from mlimagenet_data.formats.coco import read_coco, write_coco
from mlimagenet_data.formats.faults import Faults
from mlimagenet_data.formats.imagenet_s import read_imagenet_s
from mlimagenet_data.formats.tsv import read_tsv
from mlimagenet_data.images import load_image
from mlimagenet_data.labelling.label_maps import LabelMapError, read_label_map

GOOD = ("read", "refused")
_SLOW = 1.0
_CLICK = "<metadata><selected>True</selected><selectedRecord><x>0.25</x><y>0.5</y></selectedRecord></metadata>"


class Reader(NamedTuple):
    """A reader under test.

    Attributes:
        valid: A file that the reader accepts.
        read: Reads a file's bytes.
        refusal: The error that the reader may raise.
        joint: Number of inputs concatenated into one file; if it fails, each input is read alone.
        changed: Makes well-formed files with odd content, for formats whose own checks stop most damaged bytes.
    """

    valid: bytes
    read: Callable[[bytes], object]
    refusal: type[Exception]
    joint: int = 1
    changed: Callable[[np.random.Generator], bytes] | None = None


def clicks(folder: Path) -> Reader:
    """Return the reader of ImageNet-AB's XML files."""
    seed = f"<annotation><filename>a.JPEG</filename>{_CLICK * 3}</annotation>".encode()

    def read(content: bytes) -> object:
        (folder / "a.xml").write_bytes(content)
        return read_clicks(folder, "a")

    return Reader(seed, read, ByproductError)


def label_maps(folder: Path) -> Reader:
    """Return the reader of ReLabel's label maps."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 1000, (1, 5, 15, 15), generator=generator)
    file = io.BytesIO()
    torch.save(torch.cat((torch.rand(1, 5, 15, 15, generator=generator), classes)).half(), file)

    def read(content: bytes) -> object:
        (folder / "a.pt").write_bytes(content)
        return read_label_map(folder, "a")

    return Reader(file.getvalue(), read, LabelMapError)


def store(folder: Path) -> Reader:
    """Return the reader of annotation shards in Parquet."""
    (shard,) = (write_annotations(folder / "set", 6, 2, 0) / "data").iterdir()

    def read(content: bytes) -> object:
        (folder / "a.parquet").write_bytes(content)
        return list(checked_batches(folder / "a.parquet"))

    valid = pq.read_table(shard).replace_schema_metadata()  # the metadata would be nine tenths of 6 rows' bytes
    rows = valid.slice(0, 2).to_pylist()

    def changed(generator: np.random.Generator) -> bytes:
        while True:
            try:
                table = pa.Table.from_pylist(altered(rows, generator, any_type=False), schema=valid.schema)
            except (pa.ArrowException, UnicodeError, TypeError, OverflowError, AttributeError):
                continue  # Arrow cannot hold it
            return _parquet(table)

    return Reader(_parquet(valid), read, AnnotationError, changed=changed)


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="none")  # a decompressor would stop most damaged bytes
    return file.getvalue()


def tsv(folder: Path) -> Reader:
    """Return the reader of the paper's text files, which first skips faulty lines, then refuses them."""
    lines = [f"n01440764_{k}.JPEG\t0\t0,{k + 1},{k + 5}\t0.9{k},0.25,0.0{k}01\n" for k in range(9)]

    def read(content: bytes) -> object:
        (folder / "a.tsv").write_bytes(content)
        imported(read_tsv(folder / "a.tsv", Faults(skip=True)))
        return list(read_tsv(folder / "a.tsv", Faults(skip=False)))

    return Reader("".join(lines).encode(), read, AnnotationError, joint=50)


def coco(folder: Path) -> Reader:
    """Return the reader of COCO instance JSON, which first skips faulty entries, then refuses them."""
    (shard,) = (write_annotations(folder / "set", 3, 2, 0) / "data").iterdir()
    # small images keep image-sized masks cheap
    rows = [{**row, "height": 48, "width": 64} for row in pq.read_table(shard).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema()), shard)
    write_coco(AnnotationStore(folder / "set", "train"), folder / "a.json")
    seed = json.loads((folder / "a.json").read_bytes())
    used = {index for image in seed["images"] for index in (image["label"], *image["labels"])}
    used |= {index for annotation in seed["annotations"] for index in annotation["topk_labels"]}
    seed["categories"] = [item for item in seed["categories"] if item["id"] in used]

    def read(content: bytes) -> object:
        (folder / "a.json").write_bytes(content)
        imported(tables_of(read_coco(folder / "a.json", Faults(skip=True))))
        return list(read_coco(folder / "a.json", Faults(skip=False)))

    def changed(generator: np.random.Generator) -> bytes:
        return json.dumps(altered(seed, generator, any_type=True)).encode()

    return Reader(json.dumps(seed).encode(), read, AnnotationError, changed=changed)


def imagenet_s(folder: Path) -> Reader:
    """Return the reader of ImageNet-S's masks, which refuses faulty files."""
    ids = np.random.default_rng(0).choice([0, 1, 2, 300, 1000], (5, 7))
    (folder / "masks/n01440764").mkdir(parents=True)

    def read(content: bytes) -> object:
        (folder / "masks/n01440764/a.png").write_bytes(content)
        return imported(tables_of(read_imagenet_s(folder / "masks", list(range(919)), Faults(skip=False))))

    def changed(generator: np.random.Generator) -> bytes:
        size = tuple(int(side) for side in generator.integers(1, 12, 2))
        found = np.where(
            generator.random(size) < 0.5, generator.choice(ids.ravel(), size), generator.integers(0, 2**16, size)
        )
        mode = str(generator.choice(["RGB", "RGB", "RGB", "RGBA", "L", "P", "I;16", "1", "LA"]))
        return _png(found, mode)

    return Reader(_png(ids, "RGB"), read, AnnotationError, changed=changed)


def _png(ids: np.ndarray, mode: str) -> bytes:
    """Return a PNG of ids, low byte in red and high byte in green, converted to `mode`; "I;16" holds plain ids."""
    picture = Image.fromarray(np.stack([ids % 256, ids // 256, ids * 0], axis=-1).astype(np.uint8))
    if mode == "I;16":
        picture = Image.fromarray(ids.astype(np.uint16))
    file = io.BytesIO()
    (picture if mode in ("RGB", "I;16") else picture.convert(mode)).save(file, "PNG")
    return file.getvalue()


def images(_: Path) -> Reader:
    """Return the decoder of photographs in every format that it takes."""
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8))
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    valid = []
    for kind, mode in product(("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "MPO"), ("RGB", "L", "P", "CMYK", "I;16")):
        file = io.BytesIO()
        with contextlib.suppress(OSError, KeyError, ValueError):  # not all formats hold all modes
            photograph.convert(mode if mode != "I;16" else "I").convert(mode).save(file, kind, exif=turned)
            valid.append(file.getvalue())

    def changed(generator: np.random.Generator) -> bytes:
        return mutated(valid[int(generator.integers(len(valid)))], generator)

    return Reader(valid[0], lambda content: load_image(io.BytesIO(content)), ImageError, changed=changed)


def imported(tables: Iterator[pa.Table]) -> int:
    """Return the number of imported rows, after checking that the loader accepts them all."""
    rows = 0
    for table in tables:
        for batch in complete_columns(table, arrow_schema()).to_batches():
            try:
                rows += len(check_batch(batch, Path("imported"), rows).header)
            except AnnotationError as error:
                raise AssertionError(f"imported, but refused by the loader: {error}") from error
    return rows


READERS = {
    "clicks": clicks, "label_maps": label_maps, "store": store, "tsv": tsv, "coco": coco, "imagenet_s": imagenet_s,
    "images": images,
}  # fmt: skip


def made(reader: Reader, seed: int, number: int) -> bytes:
    """Return an input: damaged bytes or, at odd numbers if the reader makes them, a well-formed odd file."""
    generator = np.random.default_rng((seed, number))
    return reader.changed(generator) if reader.changed and number % 2 else mutated(reader.valid, generator)


def outcome_of(reader: Reader, content: bytes) -> str:
    """Read an input and return the outcome: one of GOOD, or a finding."""
    start = time.process_time()
    try:
        reader.read(content)
        outcome = "read"
    except reader.refusal:
        outcome = "refused"
    except Exception as error:  # noqa: BLE001 - any other error is a finding
        outcome = f"raised {type(error).__name__}"
    return "slow" if time.process_time() - start > _SLOW else outcome


def fuzz(name: str, inputs: int, seed: int, findings: Path) -> Counter[str]:
    """Run a reader on many inputs; return the count of each outcome."""
    counts: Counter[str] = Counter()
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as work:
        reader = READERS[name](Path(work))
        reader.read(reader.valid)
        for first in track(range(0, inputs, reader.joint), description=name):
            numbers = range(first, min(first + reader.joint, inputs))
            outcome = outcome_of(reader, b"".join(made(reader, seed, number) for number in numbers))
            if len(numbers) == 1 or outcome in GOOD:
                outcomes = [outcome] * len(numbers)
            else:
                outcomes = [outcome_of(reader, made(reader, seed, number)) for number in numbers]
            counts.update(outcomes)
            for number, outcome in zip(numbers, outcomes, strict=True):
                if outcome not in GOOD:
                    findings.mkdir(parents=True, exist_ok=True)
                    (findings / f"{name}-{seed}-{number}").write_bytes(made(reader, seed, number))
    return counts


def run(args: argparse.Namespace) -> int:
    """Fuzz the chosen readers; return 1 if there is a finding, else 0."""
    pa.set_cpu_count(1)  # files this small only make threads wait for each other
    found = 0
    for name in args.readers:
        counts = fuzz(name, args.inputs, args.seed, args.findings)
        print(f"{name}: {', '.join(f'{count} {outcome}' for outcome, count in counts.most_common())}")
        found += sum(count for outcome, count in counts.items() if outcome not in GOOD)
    return 1 if found else 0
