import random

import numpy as np
import pytest

from benchmarks.geometry import main
from benchmarks.measures.geometry import coordinates, examine, judge
from mlimagenet_data.views.view import View


def test_random_transforms_are_right_or_refused(capsys):
    assert main(["--outputs", "150"]) == 0
    assert " 0 wrong" in capsys.readouterr().out


def test_a_transform_is_drawn_again_by_its_number():
    assert examine(17, ["v2", "Pillow"]) == examine(17, ["v2", "Pillow"])


WRONG = {
    "mirrored": lambda view: view.flip_horizontal(),
    "shifted": lambda view: view.warp((1, 0, 12, 0, 1, 0, 0, 0, 1), view.canvas_size),
    "another scale": lambda view: view.warp((0.8, 0, 0, 0, 0.8, 0, 0, 0, 1), view.canvas_size),
    "erased": lambda view: view.erase(10, 10, 40, 40),
    "another size": lambda view: view.pad(0, 0, 1, 0),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_judge_notices_a_wrong_view(name):
    image, view = coordinates(120, 130), View.of(120, 130).crop(10, 20, 90, 80)
    native = np.asarray(image.crop((20, 10, 100, 100)))
    outcomes = [judge(native, view, random.Random(seed)) for seed in range(10)]
    assert set(outcomes) == {"right"}
    wrong = [judge(native, WRONG[name](view), random.Random(seed)) for seed in range(10)]
    assert sum(outcome != "right" for outcome in wrong) >= 8
