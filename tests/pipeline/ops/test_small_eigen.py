"""Leading eigenvectors of small matrices against LAPACK, by both procedures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from build.ops.small_eigen import eigh_by_rotations, leading, leading_by_products, orthonormal

SPECTRA = {
    "spread": lambda g, m: g.uniform(-0.3, 0.9, m),
    "tied": lambda g, m: np.r_[[0.95] * 5, g.uniform(-0.3, 0.9, m - 5)],
    "close": lambda g, m: np.r_[0.99 - 0.002 * np.arange(6), g.uniform(0, 0.5, m - 6)],
    "of rank three": lambda g, m: np.r_[[0.9, 0.5, 0.2], np.zeros(m - 3)],
    "zero": lambda g, m: np.zeros(m),
    "all equal": lambda g, m: np.full(m, 0.7),
}


def with_spectrum(generator, values):
    rotation = np.linalg.qr(generator.normal(size=(len(values), len(values))))[0]
    return (rotation * values) @ rotation.T


@pytest.mark.parametrize("kind", SPECTRA)
@pytest.mark.parametrize("solve", [leading, leading_by_products])
@pytest.mark.parametrize("size", [8, 24, 56])
def test_the_largest_eigenpairs_are_lapacks(kind, solve, size):
    generator = np.random.default_rng(size)
    matrices = np.stack([with_spectrum(generator, SPECTRA[kind](generator, size)) for _ in range(4)])
    values, vectors = (part.double().numpy() for part in solve(torch.from_numpy(matrices).float(), 8))
    expected = np.linalg.eigvalsh(matrices)
    np.testing.assert_allclose(values[:, -1], expected[:, -1], atol=5e-6)
    tied = expected[:, -8:] > expected[:, -1:] - 2e-4
    assert ((values > values[:, -1:] - 2e-4) == tied).all() or kind in ("zero", "all equal")
    for k in range(4):  # the tied eigenvectors span LAPACK's space
        found = vectors[k][:, tied[k] & (np.abs(vectors[k]).sum(axis=0) > 0)]
        np.testing.assert_allclose(matrices[k] @ found, found * expected[k, -1], atol=2e-4)
        np.testing.assert_allclose(found.T @ found, np.eye(found.shape[1]), atol=1e-5)


@given(st.integers(0, 10**6), st.sampled_from([2, 4, 8, 16]), st.booleans())
@settings(deadline=None, max_examples=25)
def test_rotations_solve_small_matrices(seed, size, tied):
    generator = np.random.default_rng(seed)
    values = np.repeat(generator.normal(size=size // 2), 2) if tied else generator.normal(size=size)
    matrix = torch.from_numpy(with_spectrum(generator, values))[None]
    found, vectors = eigh_by_rotations((matrix + matrix.mT) / 2)
    np.testing.assert_allclose(found[0], np.sort(values), atol=1e-9)
    np.testing.assert_allclose(matrix @ vectors, vectors * found[:, None], atol=1e-6)


def test_dependent_and_short_columns_become_zero_and_the_others_keep_their_order():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 40, 5, generator=generator)
    x[:, :, 2] = x[:, :, 0] - 2 * x[:, :, 1]
    x[:, :, 4] *= 1e-6
    basis = orthonormal(orthonormal(x, 1e-4, 1e-5), 0.1, 0.01)
    wanted = torch.diag(torch.tensor([1.0, 1, 0, 1, 0])).expand(3, -1, -1)
    torch.testing.assert_close(basis.mT @ basis, wanted, atol=1e-5, rtol=0)
    alike = (basis[:, :, 0] * x[:, :, 0]).sum(dim=1) / x[:, :, 0].norm(dim=1)
    torch.testing.assert_close(alike, torch.ones(3), atol=1e-5, rtol=0)
