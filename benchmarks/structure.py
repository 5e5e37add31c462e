"""Measure the architecture: modules, import graph, sizes of files and functions, and the options of the build.

    python -m benchmarks.structure                  this checkout
    python -m benchmarks.structure path/to/other    another checkout, to compare

A room is a direct child of a package: a module or a folder. An arrow is an ordered pair of rooms, the first of which
imports from the second. A room is one floor above the highest room that it imports; floor 1 imports nothing from its
package.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("mlimagenet_data", "build")


@dataclass(frozen=True)
class Structure:
    """The measurements of one package.

    Attributes:
        folders: Modules per folder, the package's root first.
        arrows: (importing room, imported room) pairs.
        floors: The floor of each room.
        circles: Rooms that import each other, directly or indirectly.
        file_lines: Lines of each module.
        function_lines: Lines of each function.
    """

    folders: dict[str, int]
    arrows: set[tuple[str, str]]
    floors: dict[str, int]
    circles: set[str]
    file_lines: list[int]
    function_lines: list[int]


def measure(package: Path) -> Structure:
    """Measure the package in a folder."""
    modules = {_module(package, file): file for file in sorted(package.rglob("*.py"))}
    trees = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in modules.items()}
    arrows: set[tuple[str, str]] = set()
    functions: list[int] = []
    for name, tree in trees.items():
        arrows |= {(_room(name), _room(other)) for other in _imports(tree, set(modules))}
        functions += [
            node.end_lineno - node.lineno + 1
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
        ]
    arrows = {(room, other) for room, other in arrows if room != other}
    floors, circles = _floors({_room(name) for name in modules}, arrows)
    folders = Counter(file.parent.relative_to(package.parent).as_posix() for file in modules.values())
    lines = [len(file.read_text(encoding="utf-8").splitlines()) for file in modules.values()]
    return Structure(dict(sorted(folders.items())), arrows, floors, circles, lines, functions)


def _module(package: Path, file: Path) -> str:
    return ".".join(file.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _imports(tree: ast.Module, modules: set[str]) -> set[str]:
    """Return the package's modules that a module imports, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            found |= submodules or {node.module}
    return found & modules


def _floors(rooms: set[str], arrows: set[tuple[str, str]]) -> tuple[dict[str, int], set[str]]:
    below: dict[str, set[str]] = defaultdict(set)
    for room, other in arrows:
        below[room].add(other)
    floors: dict[str, int] = {}
    circles: set[str] = set()

    def floor(room: str, above: tuple[str, ...]) -> int:
        if room in above:
            circles.update(above[above.index(room) :])
            return 0
        if room not in floors:
            floors[room] = 1 + max((floor(other, (*above, room)) for other in sorted(below[room])), default=0)
        return floors[room]

    for room in sorted(rooms):
        floor(room, ())
    return floors, circles


def options_in_help(checkout: Path) -> tuple[int, int]:
    """Return the number of options in the `--help` of `python -m build.run`, and its number of lines."""
    done = subprocess.run(
        [sys.executable, "-m", "build.run", "--help"], cwd=checkout, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(checkout), "COLUMNS": "100"},
    )  # fmt: skip
    names = re.findall(r"^  (?:-h, )?(--[\w-]+)", done.stdout, re.MULTILINE)
    return len(set(names)), len(done.stdout.splitlines())


def _spread(values: list[int]) -> str:
    return f"{statistics.median(values):.0f} / {statistics.quantiles(values, n=10)[-1]:.0f} / {max(values)}"


def _print(name: str, found: Structure) -> None:
    root = next(iter(found.folders))
    print(f"{name}: {sum(found.folders.values())} modules, {found.folders[root]} of them in its root")
    print("  modules per folder      " + ", ".join(f"{folder} {count}" for folder, count in found.folders.items()))
    print(f"  rooms, floors, arrows   {len(found.floors)}, {max(found.floors.values())}, {len(found.arrows)}")
    print(f"  import circles          {', '.join(sorted(found.circles)) or 'none'}")
    print(f"  lines of a file         {_spread(found.file_lines)} (median / 90th percentile / maximum)")
    print(f"  lines of a function     {_spread(found.function_lines)}")


def main() -> None:
    """Print the measurements of a checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parents[1], help="default: this one")
    parser.add_argument("--rooms", action="store_true", help="also list each room with its floor and what it imports")
    args = parser.parse_args()
    for name in PACKAGES:
        found = measure(args.checkout / name)
        _print(name, found)
        for room, floor in sorted(found.floors.items(), key=lambda item: (-item[1], item[0])) if args.rooms else []:
            imported = sorted(other.partition(".")[2] or other for one, other in found.arrows if one == room)
            print(f"    floor {floor:<2} {room.partition('.')[2] or room}: {', '.join(imported)}")
    options, lines = options_in_help(args.checkout)
    print(f"python -m build.run --help: {options} options, {lines} lines")


if __name__ == "__main__":
    main()
