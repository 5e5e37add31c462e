import torch

from build.ops.patches import moved, pick_patches


def test_all_patches_of_a_small_region_are_picked_and_the_rest_is_missing():
    values = torch.arange(2 * 3 * 16.0).view(2, 3, 4, 4)
    masks = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    masks[0, 0, 1, 1:3], masks[1, 1, 3, 3] = True, True
    found = pick_patches(values, masks, 20)
    assert found.shape == (2, 3, 20, 3)
    assert sorted(found[0, 0, :2, 0].tolist()) == [5, 6]
    assert found[0, 0, 2:].isnan().all()
    assert torch.equal(found[1, 1, 0], values[1, :, 3, 3])
    assert found[0, 1].isnan().all()  # an empty mask
    assert sorted(found[0, 2, :16, 0].tolist()) == list(range(16))  # the whole image
    assert torch.isnan(found).any(dim=3).sum() == torch.isnan(found).all(dim=3).sum()


def test_patches_of_a_large_region_are_spread_evenly_and_so_are_the_first_of_them():
    values = torch.arange(64.0).view(1, 1, 8, 8)
    found = pick_patches(values, torch.ones(1, 1, 8, 8, dtype=torch.bool), 16)[0, 0, :, 0]
    for count in (4, 8, 16):
        chosen = found[:count].sort().values
        assert len(chosen.unique()) == count
        assert chosen.diff().max() <= 4 * 64 / count
    assert (found.mean() - 31.5).abs() < 4


def test_patches_are_those_that_the_region_covers_most():
    masks = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    masks[0, 0, :4, :5] = True  # of 2 x 2 cells each: the third column of patches is half covered
    found = pick_patches(torch.arange(16.0).view(1, 1, 4, 4), masks, 16)[0, 0, :, 0]
    assert sorted(found[~found.isnan()].tolist()) == [0, 1, 2, 4, 5, 6]


def test_masks_move_with_a_crop_and_leave_the_view():
    masks = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    masks[0, 0, 0, 0], masks[0, 1, 3, 3] = True, True
    quarter = torch.tensor([[[0.5, 0, 0], [0, 0.5, 0]]])
    found = moved(masks, quarter, (4, 4))[0]
    assert found[0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert not found[1].any()
    flipped = moved(masks, torch.tensor([[[-1.0, 0, 1], [0, 1, 0]]]), (4, 4))[0, 0]
    assert flipped.nonzero().tolist() == [[0, 3]]
