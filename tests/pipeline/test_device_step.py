"""The work of a batch on a GPU, with fake CUDA tensors: shapes, dtypes and devices are real, numbers are not computed.

The tests fail if somebody adds an `.item()`, a copy to the CPU, or a tensor on the CPU.
"""

from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from build import BuildConfig
from build.networks.backbone import Maps
from build.networks.ensemble import EmbeddedEnsemble
from build.networks.timm_backbone import TimmBackbone
from build.ops import cutler, maskcut, ncut, patches, pooling, small_eigen
from build.stages import regions as stage

CUDA = torch.device("cuda:0")
_WAITS = {"_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "item", "unique"}


class Watch(TorchDispatchMode):
    """Counts what makes the CPU wait, copies between devices, and the dtypes of results on each device."""

    def __init__(self):
        super().__init__()
        self.waits, self.copies, self.results = Counter(), Counter(), Counter()
        self.products = set()  # dtypes that are multiplied as matrices

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
        name = function.overloadpacket.__name__
        if name in ("addmm", "bmm", "linear", "matmul", "mm"):
            self.products.update(tensor.dtype for tensor in tensors)
        if name in _WAITS:
            self.waits[name] += 1
        if len({tensor.device.type for tensor in tensors}) > 1:
            self.copies[name] += 1
        self.results.update((leaf.device, leaf.dtype) for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor))
        return out


@contextmanager
def fake_device():
    """Make fake tensors, on a CUDA device if asked for; what was cached with them is forgotten afterwards."""
    caches = (ncut.tie_breaker, maskcut._directions, small_eigen._tables, pooling._resampling)
    for cache in caches:
        cache.cache_clear()
    with FakeTensorMode():
        yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def device():
    with fake_device():
        yield CUDA


def move(network):
    """Put a network's parameters and buffers on the fake device; `to` cannot replace real ones."""
    for module in network.modules():
        for held in (module._parameters, module._buffers):
            for name, value in held.items():
                if value is not None:
                    held[name] = torch.empty(value.shape, dtype=value.dtype, device=CUDA)


def watched(call):
    """Call twice, so that all constants are on the device, and watch the second call."""
    call()
    with Watch() as watch:
        return call(), watch


def maps(patches=384, grid=(14, 14), features=384):
    return Maps(
        torch.empty(4, patches, *grid, device=CUDA),
        (torch.empty(4, features, *grid, device=CUDA), torch.empty(4, features, 20, 20, device=CUDA)),
        (torch.empty(4, 1000, 7, 7, device=CUDA), torch.empty(4, 1000, 20, 20, device=CUDA)),
    )


@pytest.mark.parametrize("options", [{}, {"classify_first": True}, {"feature_variants": 2}])
def test_regions_are_found_without_waiting_but_for_images_that_did_not_converge(device, monkeypatch, options):
    asked = []
    monkeypatch.setattr(maskcut, "unsolved", lambda found: asked.append(found.exact.device) or [])
    monkeypatch.setattr(
        stage, "sent", lambda values, device: torch.empty(values.shape, dtype=values.dtype, device=device)
    )
    config = BuildConfig(images="x", peaks=8, **options)
    inputs, originals = maps(), torch.empty(4, dtype=torch.int64, device=CUDA)
    found, watch = watched(lambda: stage.regions_of_maps(inputs, originals, list("abcd"), config))
    assert asked == [CUDA, CUDA]  # once a call
    assert not watch.waits
    assert not watch.copies
    assert {device for device, _ in watch.results if device.type != "cpu"} == {CUDA}
    assert {value.device for value in found.values()} == {CUDA}
    rounds = found["masks"].shape[1]
    assert found["masks"].dtype == torch.bool
    assert found["features"].shape == (4, rounds + 1, 384)
    assert found["variants"].shape == (4, rounds, options.get("feature_variants", 0), 384)
    assert found["features"].dtype == torch.float16


def test_cutlers_rules_and_the_choice_of_patches_stay_on_the_device(device, monkeypatch):
    flat = {name: torch.empty(4, dtype=kind, device=CUDA) for name, kind in
            (("values", torch.float32), ("converged", torch.bool), ("passes", torch.int64))}  # fmt: skip
    cut = ncut.Cut(torch.empty(4, 36, device=CUDA), ritz=torch.empty(4, 36, ncut.BLOCK, device=CUDA), **flat)
    monkeypatch.setattr(cutler, "second_vectors", lambda graph, start, passes: cut)
    joined, start = torch.empty(4, 36, 36, device=CUDA), torch.empty(4, 36, ncut.BLOCK, device=CUDA)
    places, values = torch.empty(4, 2, 3, device=CUDA), torch.empty(4, 384, 5, 5, device=CUDA)

    def work():
        found = cutler.find_by_cutler(joined, start, 7, size=(6, 6), num_regions=3, min_area=0.01, max_iou=0.5)
        return patches.pick_patches(values, patches.moved(found.masks, places, (5, 5)), 30)

    found, watch = watched(work)
    assert not watch.waits
    assert not watch.copies
    assert found.shape == (4, 4, 30, 384)
    assert found.device == CUDA


def test_the_affinity_is_multiplied_in_bfloat16_with_float32_sums(device):
    joined = ncut.affinity(torch.empty(2, 196, 64, device=CUDA), 0.3)
    assert joined.dtype == torch.bfloat16
    assert ncut._product(joined, torch.empty(2, 196, 8, device=CUDA)).dtype == torch.float32


@pytest.mark.parametrize("patch_features", ["tokens", "keys"])
def test_the_forward_pass_of_a_timm_backbone_stays_on_the_device(patch_features):
    options = {"weights": "random", "patch_features": patch_features, "precision": "bf16"}
    backbone = TimmBackbone("vit_small_patch16_dinov3", 64, torch.device("cpu"), **options)
    with fake_device():
        move(backbone._model)
        move(backbone._normalise)
        backbone.device = CUDA
        batch = torch.empty(2, 3, 64, 64, dtype=torch.uint8, device=CUDA)
        seen, watch = watched(lambda: backbone(batch))
    assert not watch.waits
    assert not watch.copies
    assert seen.patches.shape == (2, 384, 4, 4)
    assert seen.patches.dtype == torch.float32
    assert watch.products == {torch.bfloat16}


def test_the_ensemble_stays_on_the_device():
    ensemble = EmbeddedEnsemble(torch.device("cpu"))
    with fake_device():
        for network in ensemble._models.values():
            move(network)
        ensemble.device = CUDA
        for see, sizes in ((ensemble.see_whole, (64, 64, 64)), (ensemble.see_places, (64, 64))):
            batches = [torch.empty(2, 3, size, size, dtype=torch.uint8, device=CUDA) for size in sizes]
            seen, watch = watched(lambda see=see, batches=batches: see(batches))
            assert not watch.waits
            assert not watch.copies
            assert seen.shape == (2, 1000)
            assert seen.device == CUDA


def test_the_watch_notices_waits_and_copies(device):
    with Watch() as watch:
        torch.empty(3, device=CUDA).cpu()
        torch.empty(3).to(CUDA)
    assert sum(watch.copies.values()) == 2
    with pytest.raises(DataDependentOutputException), Watch():
        torch.empty(1, device=CUDA).item()
