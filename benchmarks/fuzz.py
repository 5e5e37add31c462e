"""Feeds readers of other people's files with damaged ones, for as long as asked.

    python -m benchmarks.fuzz --inputs 1000000 --readers clicks label_maps store

Each input is a valid file with some bytes changed, cut out, doubled or taken from elsewhere in it. A reader may answer or raise
its own error; anything else, or more than a second, is a finding: it is written to a folder, and the run ends with 1. Inputs are
told by (seed, number), so that any can be made again.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from rich.progress import track

from benchmarks.synthetic import write_annotations
from build.byproducts import ByproductError, read_clicks
from mlimagenet_data.checked import checked_batches
from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import AnnotationError
from mlimagenet_data.formats.coco import write_coco
from mlimagenet_data.formats.faults import Faults
from mlimagenet_data.formats.read_coco import read_coco
from mlimagenet_data.formats.read_imagenet_s import read_imagenet_s
from mlimagenet_data.formats.read_tsv import read_tsv
from mlimagenet_data.formats.writer import completed, tables_of
from mlimagenet_data.relabel import LabelMapError, read_label_map
from mlimagenet_data.schema import features, parquet_writer
from mlimagenet_data.store import AnnotationStore

_SLOW = 1.0
_CLICK = "<metadata><selected>True</selected><selectedRecord><x>0.25</x><y>0.5</y></selectedRecord></metadata>"


def mutated(seed: bytes, generator: np.random.Generator) -> bytes:
    """Return a file with up to eight changes."""
    data = bytearray(seed)
    for _ in range(int(generator.integers(1, 9))):
        if not data:
            break
        start = int(generator.integers(len(data)))
        length = int(min(len(data) - start, generator.geometric(0.2)))
        kind = generator.integers(5)
        if kind == 0:
            data[start] ^= 1 << int(generator.integers(8))
        elif kind == 1:
            data[start : start + length] = generator.bytes(length)
        elif kind == 2:
            del data[start : start + length]
        elif kind == 3:
            other = int(generator.integers(len(data)))
            data[start : start + length] = data[other : other + length]
        else:
            data[start:start] = bytes([int(generator.choice([0, 1, 127, 128, 255, 48, 57]))]) * length
    return bytes(data)


def clicks(folder: Path) -> tuple[bytes, Callable[[bytes], object], type[Exception]]:
    """ImageNet-AB's XML files."""
    seed = f"<annotation><filename>a.JPEG</filename>{_CLICK * 3}</annotation>".encode()

    def read(content: bytes) -> object:
        (folder / "a.xml").write_bytes(content)
        return read_clicks(folder, "a")

    return seed, read, ByproductError


def label_maps(folder: Path) -> tuple[bytes, Callable[[bytes], object], type[Exception]]:
    """ReLabel's label maps."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 1000, (1, 5, 15, 15), generator=generator)
    file = io.BytesIO()
    torch.save(torch.cat((torch.rand(1, 5, 15, 15, generator=generator), classes)).half(), file)

    def read(content: bytes) -> object:
        (folder / "a.pt").write_bytes(content)
        return read_label_map(folder, "a")

    return file.getvalue(), read, LabelMapError


def store(folder: Path) -> tuple[bytes, Callable[[bytes], object], type[Exception]]:
    """Parquet shards of annotations."""
    (shard,) = (write_annotations(folder / "set", 6, 2, 0) / "data").iterdir()

    def read(content: bytes) -> object:
        (folder / "a.parquet").write_bytes(content)
        return list(checked_batches(folder / "a.parquet"))

    return shard.read_bytes(), read, AnnotationError


def tsv(folder: Path) -> tuple[bytes, Callable[[bytes], object], type[Exception]]:
    """The paper's text files, imported without their faulty lines, and then with them."""
    lines = [f"n01440764_{k}.JPEG\t0\t0,{k + 1},{k + 5}\t0.9{k},0.25,0.0{k}01" for k in range(9)]

    def read(content: bytes) -> object:
        (folder / "a.tsv").write_bytes(content)
        imported(folder, read_tsv(folder / "a.tsv", Faults(skip=True)))
        return list(read_tsv(folder / "a.tsv", Faults(skip=False)))

    return "\n".join(lines).encode(), read, AnnotationError


def coco(folder: Path) -> tuple[bytes, Callable[[bytes], object], type[Exception]]:
    """COCO instance JSON, imported without its faulty entries, and then with them."""
    write_coco(AnnotationStore(write_annotations(folder / "set", 3, 2, 0), "train"), folder / "a.json")
    seed = json.loads((folder / "a.json").read_bytes())
    used = {index for image in seed["images"] for index in (image["label"], *image["labels"])}
    used |= {index for annotation in seed["annotations"] for index in annotation["topk_labels"]}
    seed["categories"] = [item for item in seed["categories"] if item["id"] in used]

    def read(content: bytes) -> object:
        (folder / "a.json").write_bytes(content)
        imported(folder, tables_of(read_coco(folder / "a.json", Faults(skip=True))))
        return list(read_coco(folder / "a.json", Faults(skip=False)))

    return json.dumps(seed).encode(), read, AnnotationError


def imagenet_s(folder: Path) -> tuple[bytes, Callable[[bytes], object], type[Exception]]:
    """ImageNet-S's masks, imported; faulty files are errors."""
    ids = np.random.default_rng(0).choice([0, 1, 2, 300, 1000], (5, 7))
    file = io.BytesIO()
    Image.fromarray(np.stack([ids % 256, ids // 256, ids * 0], axis=-1).astype(np.uint8)).save(file, "PNG")
    (folder / "masks/n01440764").mkdir(parents=True)

    def read(content: bytes) -> object:
        (folder / "masks/n01440764/a.png").write_bytes(content)
        return imported(folder, tables_of(read_imagenet_s(folder / "masks", list(range(919)), Faults(skip=False))))

    return file.getvalue(), read, AnnotationError


def imported(folder: Path, tables: Iterator[pa.Table]) -> object:
    """Write what an importer took as a shard, and read it as the loader does: what was taken must not be refused there."""
    schema = features(imagenet_classes()).arrow_schema
    with parquet_writer(folder / "a.parquet", schema) as writer:
        for table in tables:
            writer.write_table(completed(table, schema))
    try:
        return list(checked_batches(folder / "a.parquet"))
    except AnnotationError as error:
        raise AssertionError(f"imported, but refused: {error}") from error


READERS = {
    "clicks": clicks, "label_maps": label_maps, "store": store, "tsv": tsv, "coco": coco, "imagenet_s": imagenet_s,
}  # fmt: skip


def fuzz(name: str, inputs: int, seed: int, findings: Path) -> Counter[str]:
    """Run a reader on many inputs; return how many were read, refused and found."""
    counts: Counter[str] = Counter()
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as work:
        valid, read, expected = READERS[name](Path(work))
        read(valid)
        for number in track(range(inputs), description=name):
            content = mutated(valid, np.random.default_rng((seed, number)))
            start, outcome = time.perf_counter(), "read"
            try:
                read(content)
            except expected:
                outcome = "refused"
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                outcome = f"raised {type(error).__name__}"
            if time.perf_counter() - start > _SLOW:
                outcome = "slow"
            counts[outcome] += 1
            if outcome not in ("read", "refused"):
                findings.mkdir(parents=True, exist_ok=True)
                (findings / f"{name}-{seed}-{number}").write_bytes(content)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", nargs="+", choices=sorted(READERS), default=sorted(READERS))
    parser.add_argument("--inputs", type=int, default=10_000, help="Inputs for each reader.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("reports/fuzz"), help="Where to put what went wrong.")
    args = parser.parse_args()
    found = 0
    for name in args.readers:
        counts = fuzz(name, args.inputs, args.seed, args.findings)
        print(f"{name}: {', '.join(f'{count} {outcome}' for outcome, count in counts.most_common())}")
        found += sum(count for outcome, count in counts.items() if outcome not in ("read", "refused"))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
