"""Normalised cuts of batches of patch graphs: a block Krylov solver for the second eigenvector, on any torch device.

The graph of N patches has the weights W = (1 - e) J + e, where J is 1 for similar patches and 0 otherwise, and e keeps
the graph connected. Its cut is the second smallest solution of (D - W) x = l D x (Shi & Malik, "Normalized Cuts and
Image Segmentation", 2000, eq. 6), or x = D^-1/2 y with y the second largest eigenvector of A = D^-1/2 W D^-1/2. The
largest one, D^1/2 1, is known and projected out.

Only the products with J touch N x N numbers, and J is binary. Vectors are rounded to two signed digits of 7 bits, so
each digit's product is a sum of integers that the device computes exactly: in int8 where the CPU is fast at it,
otherwise in float, which represents all integers that occur. The most expensive step thus returns the same bits in any
batch, on any number of cores and on any device.

A rule resolves ties. Eigenvectors whose eigenvalues are within TIE of the second one's span one space, of which the
solver returns the vector closest to a fixed direction (`tie_breaker`). This direction is a column of the start block,
so the Krylov space contains it. A graph whose cuts are all equally bad (all patches similar, or none left) has no cut.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from build.ops.small_eigen import leading, orthonormal

__all__ = [
    "EPSILON",
    "NO_CUT",
    "PASSES",
    "TIE",
    "Cut",
    "Graph",
    "affinity",
    "exact_cut",
    "second_vectors",
    "tie_breaker",
]

EPSILON = 1e-5  # affinity of dissimilar patches; keeps the graph connected
TIE = 2e-4  # eigenvalues closer than this count as equal
NO_CUT = 1e-3  # no cut if the second eigenvalue of A is below this
BLOCK = 8
PASSES = (7, 12, 24)  # products with J: at first, and for images that have not converged
_ANGLE = 0.02  # largest accepted bound on the sine of the angle to the true vector
_MOVED = 0.002  # largest accepted share of patches that change sides in the last pass
_DIGIT = 127.0  # two digits in [-127, 127]: their sums over 100,000 patches are exact in float32
_NOISE = 1e-4  # length below which the remainder of a unit vector's product is rounding noise
_DEPENDENT = 1e-5  # the same for the squared length of a combination of unit vectors
_SMALLEST = 1e-30


class Graph(NamedTuple):
    """Patch graphs of B images.

    Attributes:
        joined: (B, N, N), J: 1 where two patches are similar, else 0; in the dtype in which the device multiplies it.
        alive: (B, N) bool; False for patches painted out in earlier rounds, which are similar to no patch, not even
            themselves.
    """

    joined: Tensor
    alive: Tensor


class Cut(NamedTuple):
    """Second eigenvectors of B graphs.

    Attributes:
        vectors: (B, N) float32, x, with arbitrary sign and D-norm 1.
        values: (B,) float32, the second largest eigenvalue 1 - l of A; no cut where it is below NO_CUT.
        converged: (B,) bool; false for LAPACK's.
        passes: (B,) int64, products with J; 0 for LAPACK's.
        ritz: (B, N, BLOCK) float32, approximate leading eigenvectors, the largest last: a good start for the same graph
            with more patches painted out.
    """

    vectors: Tensor
    values: Tensor
    converged: Tensor
    passes: Tensor
    ritz: Tensor


@functools.cache
def _multiplier(device: str) -> torch.dtype:
    """Return the fastest dtype in which a device multiplies J by integers exactly."""
    if device == "cuda":
        return torch.bfloat16 if hasattr(torch.ops.aten.bmm, "dtype") else torch.float32
    fast = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return torch.int8 if fast and _has_int8_products() else torch.float32


def affinity(features: Tensor, tau: float) -> Tensor:
    """Return J of B images: 1 where the cosine similarity of two patches is at least tau.

    Args:
        features: (B, N, C) float, one row per patch.
        tau: In [-1, 1].
    """
    unit = torch.nn.functional.normalize(features.float(), dim=-1)
    count, n, _ = unit.shape
    joined = torch.empty((count, n, n), dtype=_multiplier(unit.device.type), device=unit.device)
    for one, rows in zip(joined, unit, strict=True):  # one at a time: similarities need four times J's memory
        one.copy_(rows @ rows.T >= tau)
    return joined


@functools.cache
def _has_int8_products() -> bool:
    """Return whether this torch release multiplies int8 matrices on the CPU; torch 2.2 does so only on CUDA."""
    one = torch.ones((32, 32), dtype=torch.int8)
    try:
        torch._int_mm(one, one)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return True


@functools.lru_cache(maxsize=64)
def tie_breaker(n: int, device: str = "cpu") -> Tensor:
    """Return the fixed direction that decides among tied eigenvectors: (n,) float32, evenly spread over [-1/2, 1/2)."""
    steps = (np.arange(1, n + 1) * 0.6180339887498949) % 1.0 - 0.5
    return torch.from_numpy(steps.astype(np.float32)).to(device)


def _product(joined: Tensor, x: Tensor) -> Tensor:
    """Return J @ x for (B, N, N) and (B, N, b): exact for x rounded to 15 bits of each column's largest value."""
    scale = x.abs().amax(dim=1, keepdim=True).clamp_min(_SMALLEST) / _DIGIT
    high = (x / scale).round_()
    low = ((x / scale - high) * (2 * _DIGIT)).round_()
    digits = torch.cat((high, low), dim=2).to(joined.dtype)
    if joined.dtype == torch.int8:
        sums = torch.stack([torch._int_mm(j, d) for j, d in zip(joined, digits, strict=True)]).float()
    elif joined.dtype == torch.float32:
        sums = torch.bmm(joined, digits)
    else:
        sums = torch.bmm(joined, digits, out_dtype=torch.float32)
    high, low = sums.chunk(2, dim=2)
    return (high + low / (2 * _DIGIT)) * scale


class _Operator:
    """A without its largest eigenvector, for graphs with some patches painted out."""

    def __init__(self, graph: Graph) -> None:
        self.joined, n = graph.joined, graph.joined.shape[-1]
        self.alive = graph.alive[..., None].float()
        degrees = (1 - EPSILON) * self.alive * _product(self.joined, self.alive) + EPSILON * n
        self.scale = degrees.rsqrt()
        first = degrees.sqrt()
        self.first = first / torch.linalg.vector_norm(first, dim=1, keepdim=True)

    def __call__(self, y: Tensor) -> Tensor:
        z = self.scale * y
        near = self.alive * _product(self.joined, self.alive * z)
        return self.deflate(self.scale * ((1 - EPSILON) * near + EPSILON * z.sum(dim=1, keepdim=True)))

    def deflate(self, y: Tensor) -> Tensor:
        out: Tensor = y - self.first * (self.first.mT @ y)
        return out


def second_vectors(graph: Graph, start: Tensor, passes: int | None = PASSES[0]) -> Cut:
    """Return the second eigenvectors of B graphs, without waiting for the device if `passes` is given.

    Args:
        graph: The graphs.
        start: (B, N, at least BLOCK - 1), directions near the leading eigenvectors y, the best last, such as an earlier
            cut's `ritz`.
        passes: Products with J before the result is tested, at least 2; None solves each graph by LAPACK, on the CPU.
    """
    if passes is None:
        return _dense(graph)
    tie = tie_breaker(graph.joined.shape[1], str(start.device)).expand(len(start), -1)[..., None]
    return _krylov(graph, _with_tie(start, tie), passes)


def _dense(graph: Graph) -> Cut:
    found = [exact_cut(joined, alive) for joined, alive in zip(graph.joined, graph.alive, strict=True)]
    vectors, values = (torch.stack(parts).to(graph.joined.device) for parts in zip(*found, strict=True))
    none = torch.zeros(len(values), dtype=torch.int64, device=values.device)
    return Cut(vectors, values, none.bool(), none, torch.zeros((*vectors.shape, BLOCK), device=values.device))


def _with_tie(start: Tensor, tie: Tensor) -> Tensor:
    """Return a start block: the last (leading) directions of (B, N, .) and the tie breaker."""
    return torch.nn.functional.normalize(torch.cat((start[..., 1 - BLOCK :], tie), dim=2), dim=1)


def _krylov(graph: Graph, block: Tensor, passes: int) -> Cut:
    """Run block Lanczos with full orthogonalisation, and test convergence by comparing the last two passes."""
    operator = _Operator(graph)
    count, n, _ = graph.joined.shape
    basis = torch.zeros((count, n, passes * BLOCK), device=block.device)
    small = torch.zeros((count, passes * BLOCK, passes * BLOCK), device=block.device)
    rest = operator.deflate(block)
    for k in range(passes):
        here, known = slice(k * BLOCK, (k + 1) * BLOCK), basis[..., : (k + 1) * BLOCK]
        rest, earlier = orthonormal(rest, _NOISE, _DEPENDENT), basis[..., : k * BLOCK]
        # again: vectors that were short before normalisation are not orthogonal enough
        rest = orthonormal(operator.deflate(rest - earlier @ (earlier.mT @ rest)), 0.1, 0.01)
        basis[..., here] = rest
        rest = operator(rest)
        along = known.mT @ rest
        small[:, : (k + 1) * BLOCK, here] = along
        rest = operator.deflate(rest - known @ along)
    small = torch.triu(small) + torch.triu(small, 1).mT
    before, after = (_ritz(small, *pairs, basis, operator) for pairs in _last_two(small))
    outside = torch.linalg.vector_norm(rest @ after.weights[:, -BLOCK:, None], dim=1)[:, 0]
    sides = [r.x > r.x.mean(dim=1, keepdim=True) for r in (before, after)]
    moved = (sides[0] != sides[1]).float().mean(dim=1)
    angle = (outside + after.inside) / (after.value - after.below).clamp_min(TIE)
    none = after.value < NO_CUT
    converged = none | ((angle < _ANGLE) & (torch.minimum(moved, 1 - moved) <= _MOVED))
    return Cut(after.x, after.value, converged, torch.full_like(none, passes, dtype=torch.int64), basis @ after.leading)


class _Ritz(NamedTuple):
    """The best approximation in a basis.

    Attributes:
        x: (B, N), the approximation.
        value: (B,), its eigenvalue.
        below: (B,), the largest eigenvalue that is not tied with it.
        weights: (B, M), its components.
        leading: (B, M, BLOCK), those of the leading eigenvectors.
        inside: (B,), the residual's length inside the basis.
    """

    x: Tensor
    value: Tensor
    below: Tensor
    weights: Tensor
    leading: Tensor
    inside: Tensor


def _last_two(small: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the leading eigenpairs after all passes but one, and after all."""
    shorter, more = small[:, :-BLOCK, :-BLOCK], (0, BLOCK)
    if small.device.type == "cpu":
        values, vectors = leading(shorter, BLOCK)
        return [(values, torch.nn.functional.pad(vectors, (0, 0, *more))), leading(small, BLOCK)]
    both = torch.cat((torch.nn.functional.pad(shorter, (*more, *more)), small))  # a GPU's time is that of one call
    return list(zip(*(part.chunk(2) for part in leading(both, BLOCK)), strict=True))


def _ritz(small: Tensor, values: Tensor, vectors: Tensor, basis: Tensor, operator: _Operator) -> _Ritz:
    tied = values > values[:, -1:] - TIE
    towards = basis.mT @ tie_breaker(basis.shape[1], str(basis.device))  # (B, M)
    along = (vectors.mT @ towards[..., None])[..., 0]
    single = tied.sum(dim=1, keepdim=True) == 1
    share = torch.where(single, tied.float(), tied * along)
    share = share / torch.linalg.vector_norm(share, dim=1, keepdim=True).clamp_min(_SMALLEST)
    weights = (vectors @ share[..., None])[..., 0]
    x = operator.scale[..., 0] * (basis @ weights[..., None])[..., 0]
    below = torch.where(tied, -1.0, values).amax(dim=1)
    errors = torch.linalg.vector_norm(small @ vectors - vectors * values[:, None], dim=1)
    return _Ritz(x, values[:, -1], below, weights, vectors, (errors * tied).amax(dim=1))


def exact_cut(joined: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    """Return the second eigenvector of one graph, (N,) float32, and its eigenvalue of A, by LAPACK in float64.

    Ties are resolved by the same rule.
    """
    keep = alive.cpu().numpy()
    near = (joined.cpu().float().numpy() > 0) & keep[:, None] & keep[None]
    weights = np.where(near, 1.0, EPSILON)
    degrees = weights.sum(axis=1)
    scale = 1 / np.sqrt(degrees)
    n = len(keep)
    wanted = min(n, 1 + BLOCK)
    matrix = weights * scale[:, None] * scale
    try:
        values, vectors = scipy.linalg.eigh(matrix, subset_by_index=[n - wanted, n - 1])
    except scipy.linalg.LinAlgError:  # LAPACK's solver for a few of them fails for some graphs with many ties
        values, vectors = (part[..., n - wanted :] for part in scipy.linalg.eigh(matrix, driver="ev"))
    values, vectors = values[:-1], vectors[:, :-1]  # the last is D^1/2 1
    tied = vectors[:, values > values[-1] - TIE]
    if tied.shape[1] == 1:
        y = tied[:, 0]
    else:
        y = tied @ (tied.T @ tie_breaker(n).numpy().astype(np.float64))
        y /= np.linalg.norm(y)
    return torch.from_numpy((scale * y).astype(np.float32)), torch.tensor(values[-1], dtype=torch.float32)
