"""Feeds readers of other people's files with damaged ones, for as long as asked.

    python -m benchmarks.fuzz --inputs 1000000 --readers clicks label_maps store

Each input is a valid file with some bytes changed, cut out, doubled or taken from elsewhere in it. A reader may answer or raise
its own error; anything else, or more than a second, is a finding: it is written to a folder, and the run ends with 1. Inputs are
told by (seed, number), so that any can be made again.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.progress import track

from benchmarks.synthetic import write_annotations
from build.byproducts import ByproductError, read_clicks
from build.relabel import LabelMapError, read_label_map
from mlimagenet_data.checked import checked_batches
from mlimagenet_data.errors import AnnotationError

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


READERS = {"clicks": clicks, "label_maps": label_maps, "store": store}


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
