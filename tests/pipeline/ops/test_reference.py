import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from build.ops.ncut import EPSILON
from build.ops.reference import affinity, component_of, foreground, iou, maskcut, second_eigenvector
from build.ops.rounds import NEARLY

OPTIONS = {"tau": 0.3, "num_regions": 3, "min_area": 0.01, "max_iou": 0.5}


def random_affinity(seed, patches=30, tau=0.2):
    generator = np.random.default_rng(seed)
    return affinity(generator.normal(size=(patches, 4)), np.zeros(patches, bool), tau)


@pytest.mark.parametrize("tau", [0.3, 0.0, -0.5])
def test_affinity_is_binary_symmetric_and_ignores_painted_patches(tau):
    features = np.random.default_rng(0).normal(size=(20, 5))
    painted = np.arange(20) < 6
    weights = affinity(features, painted, tau)
    assert set(np.unique(weights)) <= {EPSILON, 1.0}
    np.testing.assert_array_equal(weights, weights.T)
    assert (weights[painted] == EPSILON).all()
    cosine = features @ features.T / np.outer(*[np.linalg.norm(features, axis=1)] * 2)
    np.testing.assert_array_equal(weights[6:, 6:] == 1.0, cosine[6:, 6:] >= tau)


@pytest.mark.parametrize("seed", range(8))
def test_the_eigenvector_is_the_second_smallest_of_the_normalised_laplacian(seed):
    weights = random_affinity(seed)
    degrees = weights.sum(axis=1)
    values, vectors = np.linalg.eigh((np.diag(degrees) - weights) / np.sqrt(np.outer(degrees, degrees)))
    found, value = second_eigenvector(weights)
    assert value == pytest.approx(1 - values[1])
    expected = vectors[:, 1] / np.sqrt(degrees)
    residual = (np.diag(degrees) - weights) @ found - values[1] * degrees * found
    assert np.abs(residual).max() < 1e-8
    assert abs(found @ degrees) < 1e-8  # orthogonal to the constant vector
    if values[2] - values[1] > 1e-6:
        cosine = found @ expected / (np.linalg.norm(found) * np.linalg.norm(expected))
        assert abs(cosine) == pytest.approx(1, abs=1e-6)


distinct = st_numpy.arrays(np.float64, (5, 6), elements=st.integers(-1000, 1000), unique=True)


@given(distinct)
def test_the_foreground_does_not_depend_on_the_sign(vector):
    side, seed = foreground(vector, np.ones(vector.shape, bool))
    other, other_seed = foreground(-vector, np.ones(vector.shape, bool))
    np.testing.assert_array_equal(side, other)
    assert seed == other_seed


def test_the_side_of_the_largest_value_is_the_foreground():
    vector = np.full((6, 6), -0.1)
    vector[2:4, 2:4] = 0.5
    vector[3, 3] = 0.9
    side, seed = foreground(vector, np.ones(vector.shape, bool))
    np.testing.assert_array_equal(side, vector > 0)
    assert seed == (3, 3)


def test_a_side_with_three_corners_is_background():
    vector = np.full((6, 6), 0.5)
    vector[2:5, 2:5] = -0.2
    vector[3, 4] = -0.3
    side, seed = foreground(vector, np.ones(vector.shape, bool))
    np.testing.assert_array_equal(side, vector < 0)
    assert seed == (3, 4)


def slow_component(side, seed):
    found, todo = np.zeros_like(side), [seed]
    while todo:
        r, c = todo.pop()
        if 0 <= r < side.shape[0] and 0 <= c < side.shape[1] and side[r, c] and not found[r, c]:
            found[r, c] = True
            todo += [(r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)]
    return found


@given(st_numpy.arrays(np.bool_, (6, 7)), st.tuples(st.integers(0, 5), st.integers(0, 6)))
def test_components_are_those_of_a_flood_fill(side, seed):
    np.testing.assert_array_equal(component_of(side, seed), slow_component(side, seed))


def scene(*boxes, size=12):
    """Background of one feature, and a box of another feature for each of `boxes`, with a little noise."""
    features = np.zeros((len(boxes) + 1, size, size))
    features[0] = 1.0
    for k, (top, left, bottom, right) in enumerate(boxes, start=1):
        features[:, top:bottom, left:right] = 0
        features[k, top:bottom, left:right] = 1.0
    return features + np.random.default_rng(0).normal(scale=0.02, size=features.shape)


def test_two_objects_are_found_exactly_in_two_rounds():
    boxes = [(2, 2, 6, 6), (7, 6, 11, 11)]
    masks = maskcut(scene(*boxes), **OPTIONS)
    expected = np.zeros((2, 12, 12), bool)
    for k, (top, left, bottom, right) in enumerate(boxes):
        expected[k, top:bottom, left:right] = True
    found = {mask.tobytes() for mask in masks[:2]}
    assert found == {mask.tobytes() for mask in expected}


def test_small_and_duplicate_masks_are_dropped():
    features = scene((2, 2, 6, 6))
    assert maskcut(features, **{**OPTIONS, "min_area": 1.0}) == []
    masks = maskcut(features, **{**OPTIONS, "num_regions": 8})
    assert all(iou(a, b) <= 0.5 for k, a in enumerate(masks) for b in masks[:k])
    assert all(mask.mean() > 0.01 for mask in masks)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([-1.0, 0.0, 0.3, 0.9, 1.0]))
def test_any_features_yield_valid_masks(seed, tau):
    features = np.random.default_rng(seed).normal(size=(3, 5, 6))
    masks = maskcut(features, **{**OPTIONS, "tau": tau})
    assert len(masks) <= 3
    for mask in masks:
        assert mask.shape == (5, 6)
        assert mask.any()


@pytest.mark.parametrize(
    "features", [np.ones((4, 6, 6)), np.zeros((4, 6, 6)), np.ones((4, 1, 1))], ids=["alike", "zero", "1x1"]
)
def test_degenerate_features_do_not_fail(features):
    if features.shape[1:] == (1, 1):
        with pytest.raises((ValueError, scipy.linalg.LinAlgError)):
            second_eigenvector(affinity(features.reshape(4, 1).T, np.zeros(1, bool), 0.3))
        return
    assert len(maskcut(features, **OPTIONS)) <= 3


some_features = st.tuples(st.integers(2, 10), st.integers(1, 4)).flatmap(
    lambda shape: st_numpy.arrays(np.float64, shape, elements=st.floats(-10, 10))
)


@settings(deadline=None)
@given(some_features, st.floats(-1, 1), st.data())
def test_the_affinity_of_any_features_is_valid(features, tau, data):
    painted = data.draw(st_numpy.arrays(np.bool_, len(features)))
    weights = affinity(features, painted, tau)
    assert np.isin(weights, [EPSILON, 1.0]).all()
    np.testing.assert_array_equal(weights, weights.T)
    assert (weights[painted] == EPSILON).all()
    assert (weights[:, painted] == EPSILON).all()


def test_the_eigenvector_is_correct_with_painted_patches():
    features = np.random.default_rng(3).normal(size=(24, 3))
    weights = affinity(features, np.arange(24) % 5 == 0, 0.4)
    degrees = weights.sum(axis=1)
    values, vectors = scipy.linalg.eigh((np.diag(degrees) - weights) / np.sqrt(np.outer(degrees, degrees)))
    assert values[1] - values[0] > 1e-6
    assert values[2] - values[1] > 1e-6
    (found, _), expected = second_eigenvector(weights), vectors[:, 1] / np.sqrt(degrees)
    most = np.abs(found).argmax()
    np.testing.assert_allclose(found / found[most], expected / expected[most], atol=1e-6)


@given(st_numpy.arrays(np.float64, (4, 5), elements=st.integers(-1000, 1000), unique=True))
@settings(deadline=None)
def test_the_seed_is_the_sides_most_extreme_patch(vector):
    vector = vector + 0.25  # no value is the mean
    side, seed = foreground(vector, np.ones(vector.shape, bool))
    assert side[seed]
    direction = np.sign(vector[seed] - vector.mean())
    assert direction * vector[seed] >= (1 - NEARLY) * (direction * vector[side]).max()
    assert set(np.sign(vector[side] - vector.mean())) == {direction}


@pytest.mark.parametrize(
    ("corners", "is_flipped"),
    [([(0, 0), (0, -1)], False), ([(0, 0), (0, -1), (-1, 0)], True), ([(0, 0), (0, -1), (-1, 0), (-1, -1)], True)],
    ids=["two", "three", "four"],
)
def test_the_corner_rule_counts_three_or_four(corners, is_flipped):
    vector = np.full((5, 5), -0.2)
    vector[2, 2] = -0.3
    for corner in corners:
        vector[corner] = 1.0
    side, seed = foreground(vector, np.ones(vector.shape, bool))
    np.testing.assert_array_equal(side, (vector < 0) if is_flipped else (vector > 0))
    assert seed == ((2, 2) if is_flipped else (0, 0))


def test_patches_that_touch_only_at_corners_are_not_connected():
    side = np.eye(3, dtype=bool)
    np.testing.assert_array_equal(component_of(side, (1, 1)), [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert not component_of(side, (0, 1)).any()


def test_two_rounds_find_exactly_two_objects():
    boxes = [(1, 2, 5, 6), (6, 6, 10, 11)]
    features = np.zeros((3, 12, 12))
    features[0] = 1.0
    expected = np.zeros((2, 12, 12), bool)
    for k, (top, left, bottom, right) in enumerate(boxes):
        expected[k, top:bottom, left:right] = True
        features[:, expected[k]] = np.eye(3)[k + 1][:, None]
    masks = maskcut(features, **{**OPTIONS, "num_regions": 2})
    assert len(masks) == 2
    assert {mask.tobytes() for mask in masks} == {mask.tobytes() for mask in expected}


def test_a_mask_of_just_the_smallest_area_is_dropped():
    features = scene((2, 2, 6, 6))
    options = {**OPTIONS, "num_regions": 1}
    assert len(maskcut(features, **{**options, "min_area": 15 / 144})) == 1
    assert maskcut(features, **{**options, "min_area": 16 / 144}) == []


def cut_as_told(monkeypatch, *masks):
    """Let the rounds find `masks`, and return a list that is filled with what each round sees painted out."""
    painted, found = [], iter(masks)

    def note(rows, out, tau):
        painted.append(out.copy())
        return affinity(rows, out, tau)

    monkeypatch.setattr("build.ops.reference.affinity", note)
    monkeypatch.setattr("build.ops.reference.component_of", lambda side, seed: next(found))
    return painted


def rows_mask(*rows):
    return np.isin(np.arange(10), rows)[:, None] & np.ones((10, 10), bool)


def test_a_duplicate_is_dropped_but_a_mask_at_the_limit_is_kept(monkeypatch):
    first, again, half = rows_mask(0, 1, 2, 3), rows_mask(0, 1, 2), rows_mask(0, 1)
    cut_as_told(monkeypatch, first, again, half)
    masks = maskcut(np.random.default_rng(0).normal(size=(3, 10, 10)), **OPTIONS)
    assert [mask.sum() for mask in masks] == [40, 20]


def test_every_rounds_mask_is_painted_out_even_a_dropped_one(monkeypatch):
    painted = cut_as_told(monkeypatch, rows_mask(0, 1), rows_mask(1), rows_mask(5, 6))
    masks = maskcut(np.random.default_rng(0).normal(size=(3, 10, 10)), **{**OPTIONS, "min_area": 0.1})
    assert [mask.sum() for mask in masks] == [20, 20]
    expected = [rows_mask(), rows_mask(0, 1), rows_mask(0, 1)]
    np.testing.assert_array_equal(painted, [mask.ravel() for mask in expected])


def test_nothing_is_cut_when_all_is_painted(monkeypatch):
    painted = cut_as_told(monkeypatch, rows_mask(*range(10)))
    masks = maskcut(np.random.default_rng(0).normal(size=(3, 10, 10)), **OPTIONS)
    assert len(painted) == 2  # the second round finds that there is no cut
    assert len(masks) == 1


def test_rounds_do_not_share_patches(monkeypatch):
    monkeypatch.setattr("build.ops.reference.ndimage.binary_fill_holes", lambda mask: mask)
    for seed in range(50):
        features = np.random.default_rng(seed).normal(size=(3, 8, 8))
        masks = maskcut(features, **OPTIONS)
        assert np.sum(masks, axis=0).max() == 1


def test_objects_in_filled_holes_are_still_found(monkeypatch):
    ring, inner = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    ring[2:8, 2:8], inner[4:6, 4:6] = True, True
    ring &= ~inner
    painted = cut_as_told(monkeypatch, ring, inner, rows_mask())
    masks = maskcut(np.random.default_rng(0).normal(size=(3, 10, 10)), **OPTIONS)
    np.testing.assert_array_equal(masks, [ring | inner, inner])
    np.testing.assert_array_equal(painted[1], ring.ravel())


def test_tied_eigenvectors_have_one_answer():
    """Two isolated patches in a crowd: any mixture of their two vectors is an eigenvector."""
    features = np.concatenate([np.tile([1.0, 0, 0], (14, 1)), [[0, 1.0, 0], [0, 0, 1.0]]])
    order = [3, 15, 7, 0, 14, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13]
    weights = affinity(features[order], np.zeros(16, bool), 0.5)
    found, _ = second_eigenvector(weights)
    again, _ = second_eigenvector(weights + 0.0)
    np.testing.assert_array_equal(found, again)
    assert set(np.argsort(-np.abs(found))[:2]) == {1, 4}


def test_equal_patches_have_no_cut():
    assert maskcut(np.ones((3, 6, 6)), **OPTIONS) == []
