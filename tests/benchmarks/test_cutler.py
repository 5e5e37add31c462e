import numpy as np
import torch
from PIL import Image

from benchmarks.cutler import main
from benchmarks.measures.cutler import END, MARK, counterparts
from build.ops.rounds import Regions


def regions(*masks, kept):
    none = torch.zeros(1, len(masks))
    return Regions(torch.from_numpy(np.array(masks, bool))[None], torch.tensor([kept]), none, none.bool())


def test_counterparts_have_an_iou_of_at_least_nine_tenths():
    whole, most, half = np.ones((3, 2, 5))
    most[0, 0], half[0] = 0, 0
    one = regions(whole, half, half, kept=[True, True, False])
    assert counterparts(one, regions(most, whole, kept=[True, False])) == 1
    assert counterparts(one, regions(half, kept=[True])) == 1
    assert counterparts(one, regions(whole, kept=[False])) == 0


def test_the_table_is_written_between_its_marks(tmp_path):
    generator = np.random.default_rng(0)
    for k in range(2):
        pixels = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((90, 70), Image.Resampling.BICUBIC).save(tmp_path / f"{k}.png")
    file = tmp_path / "quality.md"
    file.write_text(f"before\n{MARK}old\n{END}after\n")
    found = main(["--images", str(tmp_path), "--image-size", "128", "--docs", str(tmp_path)])
    assert found[0] == 2
    assert f"| {' | '.join(map(str, found))} |\n\n{END}after\n" in file.read_text()
    assert file.read_text().startswith(f"before\n{MARK}\nMeasured on")
