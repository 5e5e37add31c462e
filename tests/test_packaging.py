import os
import subprocess
import sys
import time
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mlimagenet_data"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a release, opened."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_is_the_loader_and_nothing_else(wheel):
    roots = {name.partition("/")[0] for name in wheel.namelist()}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"mlimagenet_data"}
    sources = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")}
    assert sources <= set(wheel.namelist())
    assert {"mlimagenet_data/py.typed", "mlimagenet_data/imagenet_classes.tsv"} <= set(wheel.namelist())
    assert not [name for name in wheel.namelist() if name.endswith((".pyc", ".png", ".parquet"))]


def test_the_wheel_declares_its_command_and_licence(wheel):
    (info,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    assert "mlimagenet = mlimagenet_data.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    text = wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0" in text
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    needed = {line for line in text.splitlines() if line.startswith("Requires-Dist: ") and "extra ==" not in line}
    assert any(line.startswith("Requires-Dist: torch>") for line in needed)
    assert not any(name in line for line in needed for name in ("datasets", "timm", "scikit", "matplotlib"))


def test_the_wheel_works_without_the_checkout(wheel, tmp_path):
    wheel.extractall(tmp_path)
    code = (
        "import mlimagenet_data; from mlimagenet_data.cli import main; print(mlimagenet_data.__file__);"
        "from mlimagenet_data.classes import imagenet_classes; assert len(imagenet_classes()) == 1000; main(['--help'])"
    )
    done = run(code, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.stdout.startswith(str(tmp_path))
    assert "verify" in done.stdout


def run(code, cwd=ROOT, **environment):
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=cwd, check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_the_import_is_quick_and_leaves_out_torch():
    code = (
        "import sys, time; start = time.perf_counter(); import mlimagenet_data; print(time.perf_counter() - start); "
        + _HEAVY
    )
    fastest = min(float(run(code).stdout) for _ in range(2))  # the first run may write bytecode
    assert fastest < 1


_HEAVY = "assert not {'torch', 'numpy', 'pyarrow', 'datasets', 'PIL'} & set(sys.modules), sorted(sys.modules)"


@pytest.mark.parametrize("arguments", [["--help"], ["import", "--help"], ["labels", "--help"], ["verify", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys, contextlib\nfrom mlimagenet_data.cli import main\n"
        f"with contextlib.suppress(SystemExit): main({arguments!r})\n{_HEAVY}"
    )
    start = time.perf_counter()
    assert "usage: mlimagenet" in run(code).stdout
    assert time.perf_counter() - start < 5


def test_the_installed_command_prints_help():
    script = Path(sys.executable).with_name("mlimagenet")
    if not script.exists():
        pytest.skip("the package is not installed in this environment")
    (entry,) = (e for e in metadata.entry_points(group="console_scripts") if e.name == "mlimagenet")
    assert entry.value == "mlimagenet_data.cli:main"
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert "annotations" in done.stdout


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("datasets", "['import', 'pyproject.toml', '--from', 'tsv', '--out', '{out}']"),
        ("shtab", "['completion', 'bash']"),
    ],
)
def test_a_missing_extra_is_named(tmp_path, module, command):
    code = (
        f"import sys; sys.modules[{module!r}] = None\nfrom mlimagenet_data.cli import main\n"
        f"sys.exit(main({command.format(out=tmp_path / 'set')}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'mlimagenet-data[" in done.stderr
    assert not (tmp_path / "set").exists()


def test_windows_is_refused_by_name():
    code = "import sys; sys.platform = 'win32'; import mlimagenet_data"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "use WSL" in done.stderr


def test_an_editable_install_shows_the_loader_to_type_checkers_and_nothing_else():
    """They read the paths in .pth files, and do not run import hooks."""
    (folder,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["dev-mode-dirs"]
    assert [path.name for path in (ROOT / folder).iterdir()] == ["mlimagenet_data"]
    assert (ROOT / folder / "mlimagenet_data").resolve() == PACKAGE
