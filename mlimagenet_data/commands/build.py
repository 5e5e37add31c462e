"""`mlimagenet build`: run `python -m build.run`, which is in the checkout and not in the wheel.

The build runs in its own process, so that the loader never imports it. That process finds `build` in the checkout before
any other package of this name, such as PyPI's, and before a folder `build` where the command runs.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlimagenet_data
from mlimagenet_data.errors import MLImageNetError

__all__ = ["add", "run_build"]

_TEXT = """\
Label an image folder: run `python -m build.run --images IMAGES`, from any folder. The build is not in the installed
package. It needs a checkout of the repository, installed with `pip install -e '.[build]'`."""
_VERBS = ("status", "verify")
_NEEDS = ("rich", "yaml", "timm")


def add(commands: Any) -> None:
    """Declare the subcommand for `--help`; `run_build` runs it with its arguments as they are."""
    parser = commands.add_parser(
        "build", help="Label an image folder, from a checkout", description=_TEXT, add_help=False
    )
    parser.add_argument("images", metavar="IMAGES", nargs="?", help="Image folder.")


def run_build(arguments: Sequence[str]) -> int:
    """Run the build with these arguments, a leading folder as `--images`; return its exit code.

    Raises:
        MLImageNetError: If the build, or a package that it needs, is not at hand.
    """
    checkout = _checkout()
    if checkout is None:
        raise MLImageNetError(
            "build: the build is not in the installed package; get a checkout of the repository, run "
            "pip install -e '.[build]' in it, and repeat the command"
        )
    if missing := [name for name in _NEEDS if importlib.util.find_spec(name) is None]:
        raise MLImageNetError(f"build: needs {', '.join(missing)}; run pip install -e '.[build]' in {checkout}")
    given = list(arguments)
    if given and not given[0].startswith("-") and given[0] not in _VERBS:
        given.insert(0, "--images")
    paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
    # -P: a folder `build` in the working directory does not hide ours
    command = [sys.executable, "-P", "-m", "build.run", *given]
    return _wait(subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}))


def _checkout() -> Path | None:
    """Return the checkout of this package (an editable install knows it), else the working directory if it is one."""
    for folder in (Path(mlimagenet_data.__file__).resolve().parent.parent, Path.cwd()):
        if (folder / "build" / "run.py").is_file() and (folder / "mlimagenet_data" / "cli.py").is_file():
            return folder
    return None


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of the build, as a shell reports it. The build decides what a signal does."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while True:
        try:
            code = process.wait()
            return code if code >= 0 else 128 - code
        except KeyboardInterrupt:  # the terminal sent it to the build as well
            continue
