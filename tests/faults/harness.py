"""Runs builds in child processes that can be killed at any moment, or kill themselves at a chosen step of a write."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.children import CONTEXT

SMALL = {"image_size": 64, "scan_size": 0, "shard_size": 4, "workers": 1}
SMALL_FLAGS = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
Setup = Callable[[], None]


def write_photographs(root: Path, count: int = 12) -> Path:
    """Write noise images into class folders."""
    generator = np.random.default_rng(0)
    for k in range(count):
        path = root / ("n01440764" if k % 2 else "n02123045") / f"{k:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        small.resize((96, 72), Image.Resampling.BICUBIC).save(path)
    return root


def start(
    images: Path, out: Path | str, *options: str, setup: Setup | None = None, log: str = ""
) -> multiprocessing.Process:
    """Start a build in a child process; what it prints goes to `log`, by default `<out>.log`."""
    command = ["--images", str(images), "--out", str(out), *SMALL_FLAGS, *options]
    process = CONTEXT.Process(target=_child, args=(command, log or f"{out}.log", setup))
    process.start()
    return process


def _child(command: list[str], log: str, setup: Setup | None) -> None:
    import torch

    from build.progress import console
    from build.run import main
    from build.stages import publish

    publish.plot = no_plot  # type: ignore[assignment]
    torch.set_num_threads(1)
    if setup:
        setup()
    with open(log, "a", encoding="utf-8", buffering=1) as file:
        console.file = file
        code = main(command)
    os._exit(code)


def no_plot(statistics: object, path: Path) -> None:
    """Write a file where the plot would be."""
    path.write_bytes(b"a plot")


def finish(process: multiprocessing.Process) -> int:
    """Wait for a child; return its exit code, negative for a signal."""
    process.join()
    assert process.exitcode is not None
    return process.exitcode


class KillAt:
    """Kills the process at its n-th step of an atomic write: half of the file written, before the rename, after the rename."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self) -> None:
        """Count steps from now on."""
        fsync, replace = os.fsync, os.replace

        def counted_fsync(file: int) -> None:
            size = os.fstat(file).st_size
            if size and self._is_due():
                with contextlib.suppress(OSError):  # a folder, or opened for reading: then nothing of it can be lost
                    os.truncate(f"/proc/self/fd/{file}", size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(file)

        def counted_replace(source: object, target: object) -> None:
            if self._is_due():
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)
            if self._is_due():
                os.kill(os.getpid(), signal.SIGKILL)

        os.fsync, os.replace = counted_fsync, counted_replace

    def _is_due(self) -> bool:
        self.step -= 1
        return self.step == 0


class SmallFiles:
    """Lets no file grow beyond some bytes, as a full disk would."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self) -> None:
        """Set the limit."""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))


def result(out: Path) -> tuple[dict[str, bytes], dict[str, object]]:
    """Return the published files, and the manifest without times."""
    files = {path.name: path.read_bytes() for path in sorted((out / "data").iterdir())}
    files["README.md"] = (out / "README.md").read_bytes()
    manifest = json.loads((out / "build_manifest.json").read_text())
    for split in manifest["splits"].values():
        for name in ("seconds", "regions_bottleneck"):
            del split[name]
    return files, manifest


def leftovers(out: Path) -> list[Path]:
    """Return temporary files."""
    return [path for path in out.rglob("*.tmp")]
