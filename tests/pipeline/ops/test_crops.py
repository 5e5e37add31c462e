import pyarrow.parquet as pq
import pytest
import torch

from build.config.options import BuildConfig, ConfigError
from build.ops.crops import crops
from build.run import main


def image_of_coordinates(height, width):
    """Red is the pixel's row and green its column, both from its middle; blue is 1."""
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack((rows, columns, torch.ones(height, width)))


def region(top, bottom, left, right, grid=(8, 8)):
    mask = torch.zeros(grid, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def test_a_crop_shows_the_regions_box_with_context():
    images = image_of_coordinates(64, 32)[None]
    masks = region(2, 4, 4, 6)[None, None]  # rows 16 to 32, columns 16 to 24
    cut = crops(images, masks, torch.ones(1, 1, dtype=torch.bool), size=4, context=0.5, masked=False)
    torch.testing.assert_close(cut[0, 0, :, 0], torch.tensor([12.0, 20.0, 28.0, 36.0]))  # rows 8 to 40
    torch.testing.assert_close(cut[0, 1, 0], torch.tensor([14.0, 18.0, 22.0, 26.0]))  # columns 12 to 28


def test_context_ends_where_the_image_does():
    images = image_of_coordinates(64, 64)[None]
    cut = crops(
        images, region(0, 2, 0, 8)[None, None], torch.ones(1, 1, dtype=torch.bool), size=2, context=1.0, masked=False
    )
    torch.testing.assert_close(cut[0, 0, :, 0], torch.tensor([8.0, 24.0]))  # rows 0 to 32
    torch.testing.assert_close(cut[0, 1, 0], torch.tensor([16.0, 48.0]))


def test_other_pixels_are_greyed_out_and_only_chosen_regions_are_cut():
    images = torch.stack([image_of_coordinates(64, 64), 2 * image_of_coordinates(64, 64)])
    corner = region(0, 4, 0, 4) & ~region(0, 2, 0, 2)
    masks = torch.stack([torch.stack([corner, region(0, 8, 0, 8)])] * 2)
    chosen = torch.tensor([[False, True], [True, False]])
    cut = crops(images, masks, chosen, size=4, context=0.0, masked=True)
    assert cut.shape == (2, 3, 4, 4)
    assert (cut[0, 2] == 1).all()
    assert torch.equal(cut[1, 2] == 2, ~region(0, 2, 0, 2, (4, 4)))
    assert torch.equal(cut[1, 2] == 0, region(0, 2, 0, 2, (4, 4)))


def test_a_second_look_changes_scores_and_nothing_else(tmp_path, photographs):
    rows = []
    for second_look in ("none", "crop", "masked"):
        out = tmp_path / second_look
        small = ["--image-size", "128", "--scan-size", "0", "--limit", "4"]
        options = ["--second-look", second_look, "--merge-iou", "2", "--reject", "0"]
        assert main(["--images", str(photographs), "--out", str(out), *small, *options]) == 0
        rows.append(pq.read_table(next((out / "data").iterdir())).to_pylist())
    assert sum(len(row["regions"]) for row in rows[0]) > 4
    for looks in zip(*rows, strict=True):
        masks, scores = ([[r[key] for r in row["regions"]] for row in looks] for key in ("mask", "score"))
        assert masks[0] == masks[1] == masks[2]
        if masks[0]:
            assert scores[0] != scores[1] != scores[2] != scores[0]


def test_another_backbones_features_have_no_second_look():
    with pytest.raises(ConfigError, match="second_look"):
        BuildConfig(backbone="vit_small_patch16_dinov3", region_features="backbone", second_look="crop")
