"""The batched eigen solver against LAPACK."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from build.ops import ncut
from build.ops.ncut import BLOCK, NO_CUT, PASSES, Graph, affinity, exact_cut, second_vectors, tie_breaker
from build.ops.reference import affinity as slow_affinity
from build.ops.reference import second_eigenvector


def blobs(seed, n, centres=4, channels=6, noise=0.4):
    """(n, channels) features around some directions: a graph with structure."""
    generator = np.random.default_rng(seed)
    directions = generator.normal(size=(centres, channels))
    return (directions[generator.integers(0, centres, n)] + noise * generator.normal(size=(n, channels))).astype(
        np.float32
    )


def starts(count, n):
    return torch.randn(count, n, BLOCK - 1, generator=torch.Generator().manual_seed(1))


def solve(features, tau=0.5, alive=None):
    features = torch.from_numpy(np.asarray(features, np.float32))
    alive = torch.ones(features.shape[:2], dtype=torch.bool) if alive is None else torch.from_numpy(alive)
    return solved(Graph(affinity(features, tau), alive))


def solved(graph, solutions=(*PASSES, None)):
    """Solve graphs as MaskCut does: again, with more passes and at last by LAPACK, until all have converged."""
    start = starts(*graph.alive.shape)
    cut = second_vectors(graph, start, solutions[0])
    for passes in solutions[1:]:
        left = ~cut.converged
        if left.any():
            again = second_vectors(Graph(graph.joined[left], graph.alive[left]), start[left], passes)
            for whole, part in zip(cut, again, strict=True):
                whole[left] = part
    return cut


def along(found, expected, weights):
    """Cosine of two vectors in the degrees' inner product, up to sign."""
    degrees = weights.sum(axis=1)
    a, b = np.sqrt(degrees) * found, np.sqrt(degrees) * expected
    return abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 90), st.floats(-0.9, 0.95), st.integers(1, 3), st.floats(0, 0.6))
def test_vectors_equal_lapacks(seed, n, tau, count, painted):
    generator = np.random.default_rng(seed)
    features = np.stack([blobs(seed + k, n) for k in range(count)])
    alive = generator.uniform(size=(count, n)) >= painted
    cut = solve(features, tau, alive)
    for k in range(count):
        near = affinity(torch.from_numpy(features[k : k + 1]), tau)[0].float().numpy() > 0
        weights = np.where(near & alive[k] & alive[k][:, None], 1.0, ncut.EPSILON)
        expected, value = second_eigenvector(weights)
        assert float(cut.values[k]) == pytest.approx(value, abs=2e-3)
        if value < NO_CUT:
            continue
        degrees = weights.sum(axis=1)
        values = scipy.linalg.eigh(np.diag(degrees) - weights, np.diag(degrees), eigvals_only=True)
        near_tie = ((values - values[1] > ncut.TIE / 3) & (values - values[1] < 3e-3)).any()
        if not near_tie:
            assert along(cut.vectors[k].numpy(), expected, weights) > 1 - 5e-3


@given(st.integers(0, 10**6), st.integers(1, 40), st.floats(-1, 1))
@settings(deadline=None)
def test_the_affinity_equals_the_reference(seed, n, tau):
    features = blobs(seed, n)
    cosine = features.astype(np.float64) @ features.T.astype(np.float64)
    norms = np.linalg.norm(features.astype(np.float64), axis=1)
    sure = np.abs(cosine / np.outer(norms, norms) - tau) > 1e-6
    found = affinity(torch.from_numpy(features)[None], tau)[0].float().numpy() == 1
    expected = slow_affinity(features.astype(np.float64), np.zeros(n, bool), tau) == 1
    np.testing.assert_array_equal(found[sure], expected[sure])


@pytest.mark.parametrize("dtype", [torch.int8, torch.float32])
def test_products_are_bit_identical_in_any_dtype_and_batch(dtype):
    joined = (torch.rand(3, 300, 300, generator=torch.Generator().manual_seed(0)) < 0.2).to(torch.float32)
    x = torch.randn(3, 300, BLOCK, generator=torch.Generator().manual_seed(1))
    expected = ncut._product(joined, x)
    torch.testing.assert_close(expected, joined @ x, rtol=0, atol=2e-2)
    for part in ([0], [2, 1], [0, 1, 2]):
        assert torch.equal(ncut._product(joined[part].to(dtype), x[part]), expected[part])


def test_the_largest_sums_are_exact():
    joined = torch.ones(1, 4096, 4096)
    assert float(ncut._product(joined, torch.full((1, 4096, 1), 3.0))[0, 0, 0]) == 3 * 4096


def test_repeated_runs_and_batches_agree():
    features = np.stack([blobs(k, 150) for k in range(5)])
    together = solve(features)
    for k in range(5):
        alone = solve(features[k : k + 1])
        sign = torch.sign(alone.vectors[0] @ together.vectors[k])
        torch.testing.assert_close(alone.vectors[0] * sign, together.vectors[k], rtol=0, atol=1e-4)


def test_too_few_passes_do_not_converge_and_lapack_needs_none():
    features = np.stack([blobs(k, 80) for k in range(3)])
    graph = Graph(affinity(torch.from_numpy(features), 0.5), torch.ones((3, 80), dtype=torch.bool))
    assert second_vectors(graph, starts(3, 80)).converged.all()
    assert not second_vectors(graph, starts(3, 80), 2).converged.any()
    dense = second_vectors(graph, starts(3, 80), None)
    for k in range(3):
        weights = slow_affinity(features[k].astype(np.float64), np.zeros(80, bool), 0.5)
        assert along(dense.vectors[k].numpy(), second_eigenvector(weights)[0], weights) > 1 - 1e-6


def isolated(n, lone):
    """n patches that are all alike but for `lone`, each like none."""
    features = np.zeros((n, 1 + len(lone)), np.float32)
    features[:, 0] = 1
    for k, place in enumerate(lone):
        features[place] = 0
        features[place, k + 1] = 1
    return features


@pytest.mark.parametrize("lone", [[5], [5, 17], [3, 4, 30, 31, 40], list(range(0, 48, 3))])
def test_isolated_patches_tie_and_the_rule_decides(lone):
    features = isolated(50, lone)
    cut = solve(features[None])
    weights = slow_affinity(features.astype(np.float64), np.zeros(50, bool), 0.5)
    expected, _ = second_eigenvector(weights)
    iterated = cut.vectors[0].numpy()
    if len(lone) <= 8:
        assert along(iterated, expected, weights) > 1 - 1e-4
    direction = np.zeros(50)
    direction[lone] = tie_breaker(50).numpy()[lone]
    first = int(np.argmax(np.abs(iterated)))
    assert first == int(np.argmax(np.abs(direction))) or len(lone) == 1


@pytest.mark.parametrize("alive", [True, False])
def test_graphs_of_equal_or_no_patches_have_no_cut(alive):
    cut = solve(np.ones((1, 20, 3)), alive=np.full((1, 20), alive))
    assert cut.values[0] < NO_CUT
    assert torch.isfinite(cut.vectors).all()


def test_all_isolated_and_disconnected_graphs_have_an_answer():
    lonely = solve(np.eye(30)[None])
    assert torch.isfinite(lonely.vectors).all()
    assert lonely.values[0] > 0.9
    halves = np.repeat(np.eye(2), 10, axis=0)
    cut = solve(halves[None])
    vector = cut.vectors[0].numpy()
    assert set(np.sign(vector[:10])) == {np.sign(vector[0])} == {-np.sign(vector[10])}
    assert np.ptp(vector[:10]) < 1e-3 * np.abs(vector).max()


def test_the_exact_cut_equals_the_reference():
    features = blobs(3, 60)
    joined = affinity(torch.from_numpy(features)[None], 0.5)[0]
    vector, value = exact_cut(joined, torch.ones(60, dtype=torch.bool))
    weights = np.where(joined.float().numpy() > 0, 1.0, ncut.EPSILON)
    expected, expected_value = second_eigenvector(weights)
    assert along(vector.numpy(), expected, weights) == pytest.approx(1, abs=1e-6)
    assert float(value) == pytest.approx(expected_value, abs=1e-6)


def test_another_lapack_routine_takes_over_when_the_first_one_fails(monkeypatch):
    joined = affinity(torch.from_numpy(blobs(3, 60))[None], 0.5)[0]
    alive = torch.ones(60, dtype=torch.bool)
    weights = np.where(joined.float().numpy() > 0, 1.0, ncut.EPSILON)
    expected, usual = exact_cut(joined, alive), second_eigenvector(weights)[0]
    solve_all = scipy.linalg.eigh

    def failing(*args, subset_by_index=None, **options):
        if subset_by_index is not None:
            raise scipy.linalg.LinAlgError("1 eigenvectors failed to converge.")
        return solve_all(*args, **options)

    monkeypatch.setattr(scipy.linalg, "eigh", failing)
    vector, value = exact_cut(joined, alive)
    assert along(vector.numpy(), expected[0].numpy(), weights) == pytest.approx(1, abs=1e-6)
    assert float(value) == pytest.approx(float(expected[1]), abs=1e-6)
    assert along(second_eigenvector(weights)[0], usual, weights) == pytest.approx(1, abs=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu():
    features = torch.from_numpy(np.stack([blobs(k, 200) for k in range(4)]))
    alive = torch.ones(4, 200, dtype=torch.bool)
    here = second_vectors(Graph(affinity(features, 0.5), alive), starts(4, 200))
    there = second_vectors(Graph(affinity(features.cuda(), 0.5), alive.cuda()), starts(4, 200).cuda())
    torch.testing.assert_close(there.values.cpu(), here.values, rtol=0, atol=1e-4)
