"""The command lines of the benchmarks answer before they import what takes seconds."""

import subprocess
import sys
from pathlib import Path

from benchmarks import fuzz, geometry
from benchmarks.geometry_parts import FAMILIES
from benchmarks.measures.fuzz import READERS

FOLDER = Path(fuzz.__file__).parent
COMMANDS = sorted(path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text())


def test_help_imports_nothing_that_takes_long():
    code = (
        "import contextlib, runpy, sys\n"
        f"for name in {COMMANDS}:\n"
        "    sys.argv = [name, '--help']\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        runpy.run_module(f'benchmarks.{name}', run_name='__main__')\n"
        "        assert False, name\n"
        "    slow = {'torch', 'numpy', 'pyarrow', 'rich', 'timm', 'PIL'} & set(sys.modules)\n"
        "    assert not slow, (name, slow)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == len(COMMANDS) >= 12


def test_the_choices_are_those_that_there_are():
    assert sorted(fuzz.READERS) == sorted(READERS)
    assert list(geometry.FAMILIES) == sorted(FAMILIES)  # the order counts: transforms are drawn from it
