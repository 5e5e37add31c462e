from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from build.ops.peaks import LEVELS, WINDOWS, evidence, find_elsewhere, find_peaks, grow, grow_object


def peaks_of(label_maps, count, least, temperature):
    return find_peaks(label_maps, evidence(label_maps, temperature), count, least, temperature)


def slow_scores(label_maps, temperature):
    """Largest probability of each class in the smaller window, place by place: geometric mean over maps."""
    logs = []
    for logits in label_maps:
        classes, height, width = logits.shape
        high, wide = (max(1, 2 * round((WINDOWS[0] * side - 1) / 2) + 1) for side in (height, width))
        best = np.zeros(classes)
        for top in range(height - high + 1):
            for left in range(width - wide + 1):
                mean = logits[:, top : top + high, left : left + wide].mean(axis=(1, 2)) / temperature
                odds = np.exp(mean - mean.max())
                best = np.maximum(best, odds / odds.sum())
        logs.append(np.log(best))
    return np.exp(np.mean(logs, axis=0))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(3, 9), st.integers(4, 12), st.floats(0.3, 3))
def test_peak_scores_equal_a_brute_force_scan(seed, height, width, temperature):
    generator = np.random.default_rng(seed)
    maps = [generator.normal(size=(6, height, width)) * 3, generator.normal(size=(6, 2 * height, 2 * width)) * 3]
    peaks = peaks_of([torch.from_numpy(m[None]).float() for m in maps], 4, 0.2, temperature)
    expected = slow_scores(maps, temperature)
    best = np.sort(expected)[::-1][:4]
    np.testing.assert_allclose(peaks.scores[0], best, rtol=1e-4)
    np.testing.assert_allclose(expected[peaks.classes[0]], best, rtol=1e-4)
    np.testing.assert_array_equal(peaks.kept[0], peaks.scores[0] >= 0.2)
    for windows, m in zip(peaks.windows, maps, strict=True):
        assert windows.shape == (1, 4, *m.shape[1:])
        np.testing.assert_allclose(windows.sum(dim=(2, 3)), 1, rtol=1e-5)


def two_objects():
    """(patches, label map): a left object that shows class 2 in one corner of it, a right one that shows class 5, and ground."""
    patches = torch.zeros(1, 3, 16, 16)
    patches[:, 0] = 1
    left, right = torch.zeros(16, 16, dtype=torch.bool), torch.zeros(16, 16, dtype=torch.bool)
    left[3:13, 1:6], right[4:10, 9:15] = True, True
    patches[0, :, left] = torch.tensor([0.0, 1.0, 0.0])[:, None]
    patches[0, :, right] = torch.tensor([0.0, 0.0, 1.0])[:, None]
    logits = torch.zeros(1, 8, 8, 8)
    logits[0, 2, 2:5, 0:3] = 6
    logits[0, 5, 2:5, 5:8] = 8
    return patches, logits, left, right


def test_a_peak_grows_to_its_object():
    patches, logits, left, right = two_objects()
    peaks = peaks_of([logits], 4, 0.5, 1.0)
    assert peaks.classes[0, :2].tolist() == [5, 2]
    assert peaks.kept[0].tolist() == [True, True, False, False]
    masks = grow(patches, peaks)
    assert torch.equal(masks[0, 0], right)
    assert torch.equal(masks[0, 1], left)
    assert not masks[0, 2:].any()


def test_images_of_a_batch_do_not_mix():
    patches, logits, left, right = two_objects()
    both = peaks_of([torch.cat((logits, logits.flip(3)))], 2, 0.5, 1.0)
    masks = grow(torch.cat((patches, patches.flip(3))), both)
    assert torch.equal(masks[1, 0], right.flip(1))
    assert torch.equal(masks[1, 1], left.flip(1))


@pytest.mark.parametrize("count", [0, 3])
def test_maps_without_contrast_yield_no_region(count):
    peaks = peaks_of([torch.zeros(2, 5, 6, 6)], count, 0.0, 1.0)
    assert peaks.classes.shape == (2, count)
    assert not grow(torch.ones(2, 4, 6, 6), peaks).any()


def context_of(patches):
    """The classifier's features where they tell the same things apart as the patches do, at half their size."""
    return torch.nn.functional.avg_pool2d(patches, 2)


def test_the_originals_logits_grow_to_its_object_and_not_to_the_other_one():
    patches, logits, left, right = two_objects()
    for original, own, other in ((2, left, right), (5, right, left)):
        masks = grow_object(patches, torch.zeros(1, 4, 8, 8), [logits], torch.tensor([original]))
        assert masks.shape == (1, len(LEVELS), 16, 16)
        assert LEVELS[0] == 0.4
        assert torch.equal(masks[0, 0], own)
        assert not (masks[0, LEVELS.index(min(LEVELS))] & other).any()


def test_an_image_without_an_original_label_has_no_object_of_it():
    patches, logits, left, _ = two_objects()
    logits[:, 0] = logits[:, -1] = logits[:, 2]  # wherever -1 might point to
    both = [torch.cat((values, values)) for values in (patches, context_of(patches), logits)]
    masks = grow_object(both[0], both[1], [both[2]], torch.tensor([-1, 2]))
    assert not masks[0].any()
    assert torch.equal(masks[1, 0], left)


def made_up(seed, batch=1):
    """Random patches, classifier features at half their size, and two label maps of 6 classes."""
    draw = torch.Generator().manual_seed(seed)
    patches = torch.rand(batch, 5, 12, 10, generator=draw)
    context = torch.rand(batch, 4, 6, 5, generator=draw)
    maps = [4 * torch.randn(batch, 6, 6, 5, generator=draw), 4 * torch.randn(batch, 6, 9, 8, generator=draw)]
    return patches, context, maps


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(0, 5))
def test_the_object_at_a_higher_level_lies_inside_that_at_a_lower_one(seed, original):
    patches, context, maps = made_up(seed)
    masks = grow_object(patches, context, maps, torch.tensor([original]))[0]
    nested = [masks[k] for k in np.argsort(LEVELS)]
    for low, high in pairwise(nested):
        assert not (high & ~low).any()
    assert nested[-1].any()


def slow_object(patches, context, maps, level):
    """One image, the original class's map only: the docstring's steps, place by place."""
    height, width = patches.shape[1:]
    wide = torch.nn.functional.interpolate(context[None], size=(height, width), mode="bilinear")[0].numpy()
    features = np.zeros((height * width, len(patches) + len(context)))
    for k, (row, column) in enumerate(np.ndindex(height, width)):
        one, other = patches[:, row, column].numpy(), wide[:, row, column]
        both = np.concatenate((one / np.linalg.norm(one), 0.5 * other / np.linalg.norm(other)))
        features[k] = both / np.linalg.norm(both)
    value = np.zeros(height * width)
    for m in maps:
        stretched = (
            torch.nn.functional.interpolate(m[None, None], size=(height, width), mode="bilinear").numpy().ravel()
        )
        value += (stretched - stretched.min()) / (stretched.max() - stretched.min()) / len(maps)
    for _ in range(2):  # each place takes the mean of all, weighted by the squared similarity
        value = np.array([np.average(value, weights=(features @ one).clip(0) ** 2) for one in features])
    mask = (value >= value.min() + level * (value.max() - value.min())).reshape(height, width)
    parts = ndimage.label(mask)[0]
    return ndimage.binary_fill_holes(parts == parts.ravel()[value.argmax()])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000))
def test_the_object_equals_a_slow_reference(seed):
    patches, context, maps = made_up(seed)
    masks = grow_object(patches, context, maps, torch.tensor([3]))[0]
    for mask, level in zip(masks.numpy(), LEVELS, strict=True):
        expected = slow_object(patches[0], context[0], [m[0, 3] for m in maps], level)
        assert (mask != expected).mean() < 0.02  # a place at the very level may fall on either side


def test_a_flipped_image_has_the_flipped_object_and_images_do_not_mix():
    patches, logits, left, _ = two_objects()
    both = [torch.cat((values, values.flip(3))) for values in (patches, context_of(patches), logits)]
    masks = grow_object(both[0], both[1], [both[2]], torch.tensor([2, 2]))
    assert torch.equal(masks[0, 0], left)
    assert torch.equal(masks[1], masks[0].flip(2))
    for seed in range(5):
        patches, context, maps = made_up(seed)
        masks = grow_object(patches, context, maps, torch.tensor([1]))
        flipped = grow_object(patches.flip(3), context.flip(3), [m.flip(3) for m in maps], torch.tensor([1]))
        assert (flipped.flip(3) != masks).float().mean() < 0.01


def test_the_classifiers_features_tell_apart_what_patches_confuse():
    """Two things side by side on plain ground, of the same size and with a cosine of 0.5 between their patches.

    Where the classifier's features do not differ, both cosines are (0.5 + 0.25) / 1.25 = 0.6, squared 0.36: after two
    steps, the second thing has 2 * 0.36 / (1 + 0.36 ** 2) = 0.64 of the first one's value, which is above 0.4. Where they
    are orthogonal, it is 0.5 / 1.25 = 0.4, squared 0.16, and 0.31.
    """
    first, second = torch.zeros(16, 16, dtype=torch.bool), torch.zeros(16, 16, dtype=torch.bool)
    first[4:12, 2:8], second[4:12, 8:14] = True, True
    patches, context = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    patches[:, 0], context[:, 0] = 1, 1
    patches[0, :, first], patches[0, :, second] = torch.tensor([[0, 1, 0], [0, 0.5, 0.75**0.5]]).float()[..., None]
    logits = torch.zeros(1, 4, 16, 16)
    logits[0, 2, 6:10, 3:7] = 5
    context[0, :, first | second] = torch.tensor([0.0, 1.0, 0.0])[:, None]
    blind = grow_object(patches, context, [logits], torch.tensor([2]))[0, 0]
    context[0, :, second] = torch.tensor([0.0, 0.0, 1.0])[:, None]
    seeing = grow_object(patches, context, [logits], torch.tensor([2]))[0, 0]
    assert torch.equal(blind, first | second)
    assert torch.equal(seeing, first)


@pytest.mark.parametrize("value", [0.0, torch.nan])
def test_without_contrast_or_a_label_map_there_is_no_object(value):
    found = grow_object(
        torch.ones(1, 3, 6, 6), torch.ones(1, 2, 3, 3), [torch.full((1, 4, 3, 3), value)], torch.tensor([1])
    )
    assert not found.any()


def slow_elsewhere(seen, mask, index, least):
    """The words of the docstring, for one image, region and class; masks and maps of one size."""
    inside = sum(m[index][mask].mean() for m in seen)
    best = sum(m[index].max() for m in seen)
    holds = sum(mask.ravel()[m[index].argmax()] for m in seen)
    return inside < least * best and holds < len(seen) / 2


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 6), st.integers(1, 3), st.floats(0, 1))
def test_classes_seen_elsewhere_match_their_definition(seed, height, width, count, least):
    generator = np.random.default_rng(seed)
    seen = [generator.random((5, height, width)).astype(np.float32) for _ in range(count)]
    masks = generator.random((3, height, width)) < 0.5
    masks[:, 0, 0] = True
    classes = np.array([[0, 4], [1, 2], [3, 0]])
    found = find_elsewhere(
        [torch.from_numpy(m)[None] for m in seen], torch.from_numpy(masks)[None], torch.from_numpy(classes)[None], least
    )
    for r, k in np.ndindex(classes.shape):
        assert bool(found[0, r, k]) == slow_elsewhere(seen, masks[r], classes[r, k], least)


def test_a_class_is_elsewhere_in_the_region_beside_its_object():
    _, logits, left, right = two_objects()
    masks = torch.stack((left, right))[None]
    classes = torch.tensor([[[2, 5], [2, 5]]])
    found = find_elsewhere(evidence([logits], 1.0), masks, classes, 0.5)
    assert found[0].tolist() == [[False, True], [True, False]]


def test_without_a_label_map_no_class_is_elsewhere():
    masks, classes = torch.ones(1, 2, 4, 4, dtype=torch.bool), torch.zeros(1, 2, 3, dtype=torch.int64)
    assert not find_elsewhere([torch.full((1, 5, 1, 1), torch.nan)], masks, classes, 1.0).any()
