import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from build.ops.peaks import WINDOWS, evidence, find_elsewhere, find_peaks, grow


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
