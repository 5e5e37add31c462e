"""The demo's photographs, which ship in PyPI packages: nothing is downloaded."""

from __future__ import annotations

import os
import shutil
from importlib import resources
from pathlib import Path

__all__ = ["PHOTOGRAPHS", "lay_out_demo"]

# (package, file in it, WordNet id of the class that a person would choose, the class's name)
PHOTOGRAPHS = (
    ("skimage", "data/astronaut.png", "n04266014", "space shuttle"),
    ("skimage", "data/chelsea.png", "n02123045", "tabby"),
    ("skimage", "data/coffee.png", "n07920052", "espresso"),
    ("skimage", "data/rocket.jpg", "n03773504", "missile"),
    ("skimage", "data/motorcycle_left.png", "n03785016", "moped"),
    ("sklearn", "datasets/images/china.jpg", "n03877845", "palace"),
    ("sklearn", "datasets/images/flower.jpg", "n11939491", "daisy"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "n03763968", "military uniform"),
)


def lay_out_demo(folder: Path) -> Path:
    """Copy the photographs into an ImageNet-like tree, `<folder>/train/<wnid>/<name>`, and return `folder`.

    Raises:
        FileNotFoundError: If a package lacks its photograph.
    """
    for package, inside, wnid, _ in PHOTOGRAPHS:
        source = resources.files(package).joinpath(inside)
        if not source.is_file():
            raise FileNotFoundError(f"{source}: missing from the installed {package}; run `pip install -e '.[build]'`")
        target = folder / "train" / wnid / Path(inside).name
        target.parent.mkdir(parents=True, exist_ok=True)
        with resources.as_file(source) as path:
            shutil.copyfile(path, target)
            os.utime(target, (0, 0))  # the same inputs in every run, so that a second run finds its work done
    return folder
