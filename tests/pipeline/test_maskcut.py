import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from build.ops.maskcut import EPSILON, affinity, component_of, foreground, iou, maskcut, second_eigenvector

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
    found = second_eigenvector(weights)
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
    absolute = np.abs(vector)
    if (absolute == absolute.max()).sum() > 1 or (vector == vector.mean()).any():
        return  # a tie
    side, seed = foreground(vector)
    other, other_seed = foreground(-vector)
    np.testing.assert_array_equal(side, other)
    assert seed == other_seed


def test_the_side_of_the_largest_value_is_the_foreground():
    vector = np.full((6, 6), -0.1)
    vector[2:4, 2:4] = 0.5
    vector[3, 3] = 0.9
    side, seed = foreground(vector)
    np.testing.assert_array_equal(side, vector > 0)
    assert seed == (3, 3)


def test_a_side_with_three_corners_is_background():
    vector = np.full((6, 6), 0.5)
    vector[2:5, 2:5] = -0.2
    vector[3, 4] = -0.3
    side, seed = foreground(vector)
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


def test_small_and_repeated_masks_are_dropped():
    features = scene((2, 2, 6, 6))
    assert maskcut(features, **{**OPTIONS, "min_area": 1.0}) == []
    masks = maskcut(features, **{**OPTIONS, "num_regions": 8})
    assert all(iou(a, b) <= 0.5 for k, a in enumerate(masks) for b in masks[:k])
    assert all(mask.mean() > 0.01 for mask in masks)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([-1.0, 0.0, 0.3, 0.9, 1.0]))
def test_any_features_give_legal_masks(seed, tau):
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
