"""The architecture's limits, and the measurements behind them."""

from pathlib import Path

import pytest

from benchmarks.structure import PACKAGES, measure, options_in_help

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def packages():
    return {name: measure(ROOT / name) for name in PACKAGES}


def test_measure_finds_the_rooms_floors_and_arrows_of_a_small_package(tmp_path):
    package = tmp_path / "house"
    (package / "attic").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "ground.py").write_text("def f():\n    return 1\n")
    (package / "first.py").write_text("from house.ground import f\nimport os\n")
    (package / "attic" / "__init__.py").write_text("")
    (package / "attic" / "a.py").write_text("from house.attic import b\n\ndef g():\n    from house import first\n")
    (package / "attic" / "b.py").write_text("import house.ground\n")
    found = measure(package)
    assert found.folders == {"house": 3, "house/attic": 3}
    assert found.floors == {"house": 1, "house.ground": 1, "house.first": 2, "house.attic": 3}
    assert found.arrows == {
        ("house.first", "house.ground"), ("house.attic", "house.first"), ("house.attic", "house.ground"),
    }  # fmt: skip
    assert not found.circles
    assert sorted(found.file_lines) == [0, 0, 1, 2, 2, 4]
    assert sorted(found.function_lines) == [2, 2]


def test_circles_name_the_rooms_that_import_each_other(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.py").write_text(f"from {tmp_path.name} import {other}\n")
    (tmp_path / "c.py").write_text("")
    assert measure(tmp_path).circles == {f"{tmp_path.name}.a", f"{tmp_path.name}.b"}


def test_the_loader_stays_within_its_limits(packages):
    found = packages["mlimagenet_data"]
    assert found.folders["mlimagenet_data"] <= 12
    assert max(found.floors.values()) <= 10
    assert len(found.arrows) <= 80


@pytest.mark.parametrize("name", PACKAGES)
def test_files_and_functions_stay_short_and_rooms_import_downwards_only(packages, name):
    assert max(packages[name].file_lines) <= 400
    assert max(packages[name].function_lines) <= 60
    assert not packages[name].circles


@pytest.mark.slow
def test_the_help_of_the_build_shows_at_most_forty_options():
    options, _ = options_in_help(ROOT)
    assert 20 <= options <= 40
