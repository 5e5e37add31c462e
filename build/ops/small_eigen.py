"""Leading eigenvectors of batches of small symmetric matrices, without waiting for the device.

On the CPU, LAPACK solves them. A GPU's own eigensolvers are slow for small matrices and report errors to the CPU, which
waits for them; the procedure used there consists of matrix products and a fixed number of rotations.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

__all__ = ["eigh_by_rotations", "leading", "leading_by_products", "orthonormal"]

_SHIFT = 0.5  # added to eigenvalues in [-1, 1], so that the largest ones are the largest in magnitude
_SEPARATED = 4  # doublings of the power after which eigenvalues that differ are told apart
_CLOSE = 7  # further ones, for eigenvalues that nearly agree: 2 ** 11 in all
_SWEEPS = 7
# keeps Gram matrices of dependent vectors positive definite; above the rounding of the matrix
_JITTER = {torch.float32: 1e-6, torch.float64: 1e-14}
_SMALLEST = 1e-30


def orthonormal(x: Tensor, least: float, dependent: float) -> Tensor:
    """Return an orthonormal basis of the columns of (B, N, b), in their order, by Cholesky factors of the Gram matrix.

    Args:
        x: Columns, float32 or float64.
        least: Columns below this length become 0.
        dependent: So do columns whose squared sine of the angle to the earlier ones is below this.

    Stathopoulos & Wu, "A block orthogonalization procedure with constant synchronization requirements", 2002; the
    Cholesky form is their CholQR.
    """
    gram = (x.mT @ x).double()
    norms = gram.diagonal(dim1=1, dim2=2).sqrt()
    inverse = torch.where(norms > least, 1 / norms.clamp_min(_SMALLEST), 0.0)
    scaled = gram * inverse[:, :, None] * inverse[:, None]
    eye = torch.eye(x.shape[2], dtype=gram.dtype, device=x.device)
    factor, _ = torch.linalg.cholesky_ex(scaled + _JITTER[x.dtype] * eye, upper=True)
    kept = factor.diagonal(dim1=1, dim2=2) ** 2 > dependent
    combine = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=True) * kept[:, None]
    out: Tensor = x @ (inverse[:, :, None] * combine).to(x.dtype)
    return out


def leading(matrices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalues, ascending, and their eigenvectors: (B, count) and (B, M, count).

    Args:
        matrices: (B, M, M) symmetric, with eigenvalues in [-1, 1].
        count: At most M.
    """
    if matrices.device.type != "cpu":
        return leading_by_products(matrices, count)
    try:
        values, vectors = torch.linalg.eigh(matrices)
    except RuntimeError:
        vectors = matrices * torch.nan
    if not torch.isfinite(vectors).all():  # MKL fails, or returns NaN, for some matrices with many equal eigenvalues
        values, vectors = (torch.from_numpy(a).to(matrices) for a in np.linalg.eigh(matrices.double().numpy()))
    return values[:, -count:], vectors[..., -count:]


def leading_by_products(matrices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Do as `leading`, on any device.

    Subspace iteration with powers of the matrices. Powers that are large enough to tell close eigenvalues apart lose
    the small ones to rounding, so vectors of low and of high powers span the space in which the matrices are solved.
    """
    double = matrices.double()
    size = double.shape[1]
    eye = torch.eye(size, dtype=double.dtype, device=double.device)
    power, x = (double + _SHIFT * eye) / (1 + _SHIFT), eye[:, :count].expand(len(double), -1, -1)
    for _ in range(_SEPARATED):  # each power is at most the sum of the earlier ones: no vector swamps a later one
        x = orthonormal(power @ x, _SMALLEST, 1e-12)
        power = _squared(power)
    close = x
    for _ in range(_CLOSE):
        close = orthonormal(power @ close, _SMALLEST, 1e-12)
        power = _squared(power)
    space = orthonormal(torch.cat((close, x), dim=2), 1e-8, 1e-6)
    space = orthonormal(space, 0.1, 0.01)
    empty = (space.square().sum(dim=1) < 0.5).double()
    values, turns = eigh_by_rotations(space.mT @ double @ space - 2 * torch.diag_embed(empty))
    return values[:, -count:].to(matrices.dtype), (space @ turns[..., -count:]).to(matrices.dtype)


def _squared(power: Tensor) -> Tensor:
    square = power @ power
    out: Tensor = square / torch.linalg.matrix_norm(square, keepdim=True).clamp_min(_SMALLEST)
    return out


def eigh_by_rotations(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues, ascending, and the eigenvectors of symmetric (B, M, M) matrices, M even.

    Jacobi's method with M / 2 rotations at a time (Brent & Luk, "The solution of singular-value and symmetric
    eigenvalue problems on multiprocessor arrays", 1985).
    """
    count, size, _ = matrices.shape
    vectors = torch.eye(size, dtype=matrices.dtype, device=matrices.device).expand_as(matrices)
    for read, write in _tables(size, str(matrices.device), matrices.dtype) * _SWEEPS:
        apart, off = (matrices.reshape(count, -1) @ read).chunk(2, dim=1)
        angle = 0.5 * torch.atan2(torch.where(apart < 0, -2 * off, 2 * off), apart.abs())  # at most an eighth turn
        turn = (torch.cat((angle.cos(), angle.sin()), dim=1) @ write).view_as(matrices)
        matrices, vectors = turn.mT @ matrices @ turn, vectors @ turn
    values, order = matrices.diagonal(dim1=1, dim2=2).sort(dim=1)
    return values, vectors.gather(2, order[:, None].expand_as(vectors))


@functools.lru_cache(maxsize=16)
def _tables(size: int, device: str, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Return tables of a tournament's rounds, in which each pair of places meets once.

    One reads a round's a_qq - a_pp and a_pq of each pair from a flat matrix, (M * M, M); the other writes the cosines and
    sines of its rotations into one, (M, M * M).
    """
    ring, out = list(range(size)), []
    for _ in range(size - 1):
        read, write = torch.zeros(size, size, size, dtype=dtype), torch.zeros(size, size, size, dtype=dtype)
        for k, (p, q) in enumerate(zip(ring[: size // 2], ring[: size // 2 - 1 : -1], strict=True)):
            sine = size // 2 + k
            read[q, q, k], read[p, p, k], read[p, q, sine] = 1, -1, 1
            write[k, p, p] = write[k, q, q] = write[sine, p, q] = 1
            write[sine, q, p] = -1
        out.append((read.view(-1, size).to(device), write.view(size, -1).to(device)))
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return out
