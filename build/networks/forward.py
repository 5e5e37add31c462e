"""The forward pass over image files: threads decode the next batches while the networks work."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d

from build.config.options import BuildConfig, ConfigError, digest
from build.cpus import available_cpus
from build.images.augment import augmented
from build.images.clicks import ByproductError, Click, read_clicks
from build.images.listing import ImageInput
from build.images.reader import ImageReader
from build.networks.backbone import Backbone, Maps
from build.networks.classifier import make_classifier, sees_whole_only
from build.networks.embedded import EmbeddedBackbone
from build.networks.ensemble import EmbeddedEnsemble
from build.networks.scaling import input_of, scaled_once
from build.networks.timm_backbone import TimmBackbone
from build.networks.whole import WholeClassifier
from mlimagenet_data.classes import NUM_CLASSES
from mlimagenet_data.errors import ImageError
from mlimagenet_data.files.printing import printable
from mlimagenet_data.images import fault_status
from mlimagenet_data.labelling.label_maps import LabelMapError, densify, read_label_map

__all__ = ["Clock", "Decoded", "Forward", "ForwardBatch", "make_backbone", "named_folder", "pick_device", "sent"]

_AHEAD = 2  # batches decoded ahead of the network


def pick_device(name: str) -> torch.device:
    """Return the torch device that `--device` names; auto selects CUDA if available.

    Raises:
        ConfigError: If PyTorch finds no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device: PyTorch finds no Apple GPU; pass --device auto or cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: PyTorch finds no CUDA device; pass --device auto or cpu")
    return torch.device(name)


def sent(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of the CPU on a device. The CPU does not wait for a GPU."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def make_backbone(config: BuildConfig) -> Backbone:
    """Return the network whose patch features MaskCut cuts."""
    device = pick_device(config.device)
    if config.backbone == "embedded":
        return EmbeddedBackbone(config.image_size, device, config.max_upscale)
    return TimmBackbone(
        config.backbone, config.image_size, device, weights=config.weights, patch_features=config.patch_features,
        precision=config.precision, compiled=config.compile,
    )  # fmt: skip


def make_naming(config: BuildConfig, name: str) -> Backbone:
    """Return the network whose features name regions, if it is neither the backbone nor the classifier."""
    return TimmBackbone(
        name, config.label_map_size, pick_device(config.device), weights=config.region_weights,
        precision=config.precision, compiled=config.compile, option="region_features",
    )  # fmt: skip


def make_whole(config: BuildConfig) -> EmbeddedEnsemble | WholeClassifier | None:
    """Return what sees whole images: the ensemble, or the classifier if it is not applied at each location."""
    device, name = pick_device(config.device), config.classifier
    if name == "embedded":
        return None if config.names_by_backbone else EmbeddedEnsemble(device, config.max_upscale)
    needs_no_places = config.label_maps is not None and config.names_by_backbone and name != "none"
    if needs_no_places or sees_whole_only(name):
        return WholeClassifier(name, device, weights=config.classifier_weights, precision=config.precision)
    return None


@dataclass
class Clock:
    """Seconds spent on each part of the work, summed over threads."""

    seconds: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def timed(self, name: str, call: Callable[..., Any], *args: Any) -> Any:
        """Call a function and add its duration to the part `name`."""
        start = time.perf_counter()
        try:
            return call(*args)
        finally:
            with self.lock:
                self.seconds[name] += time.perf_counter() - start  # type: ignore[assignment]


class Decoded(NamedTuple):
    """A decoded file, with one (3, S, S) uint8 tensor per network, or the reason why it cannot be read."""

    tensors: tuple[torch.Tensor, ...]
    size: tuple[int, int] | None
    status: str
    reason: str | None
    content: str | None = None  # hash of the file's bytes
    label_map: torch.Tensor | None = None  # dense (K, h, w), if label maps are read from files
    label_map_status: str = "computed"  # or, if read from a file, `ok` or the status of a LabelMapError
    clicks: tuple[Click, ...] = ()  # of the image's annotators, if byproducts are read
    byproduct_status: str | None = None  # `ok` or the status of a ByproductError; None if no byproducts are read
    opinion: tuple[torch.Tensor, ...] = ()  # the inputs of what sees whole images
    versions: tuple[
        tuple[torch.Tensor, torch.Tensor], ...
    ] = ()  # changed at random: input, and where its places come from


class ForwardBatch(NamedTuple):
    """A batch of images, all with inputs of the same sizes and all with an original label or all without one.

    The networks' maps are those of the readable images, in the same order.
    """

    images: Sequence[ImageInput]
    decoded: Sequence[Decoded]
    maps: Maps | None
    whole: torch.Tensor | None = None  # (B, K), probabilities for whole images with an original label
    places: torch.Tensor | None = None  # (B, K), those of each class's best place, for images without one

    @property
    def readable(self) -> list[ImageInput]:
        """The images that could be read."""
        return [image for image, decoded in zip(self.images, self.decoded, strict=True) if decoded.tensors]


def _of_one_kind(images: Sequence[ImageInput], decoded: Sequence[Decoded]) -> list[list[int]]:
    """Return the images' positions, grouped by the sizes of their inputs and by whether they have an original label."""
    groups: dict[Any, list[int]] = {}
    for k, (image, one) in enumerate(zip(images, decoded, strict=True)):
        sizes = tuple(tensor.shape for tensor in (*one.tensors, *one.opinion))
        groups.setdefault((image.label is None, sizes), []).append(k)
    return list(groups.values())


def named_folder(config: BuildConfig, option: str) -> Path | None:
    """Return the folder that an option names, or None if the option is not set."""
    named = getattr(config, option)
    if named is not None and not Path(named).is_dir():
        raise ConfigError(f"{option}: {named} is not a folder")
    return None if named is None else Path(named)


def _lacks_memory(error: BaseException | None) -> bool:
    return error is not None and (isinstance(error, MemoryError) or _lacks_memory(error.__cause__))


def _unusable(reader: ImageReader, listed: ImageInput, error: Exception) -> Decoded:
    reason = str(error) if isinstance(error, ImageError) else f"{printable(listed.file_name)}: not enough memory"
    return Decoded((), None, fault_status(error), reason, reader.digest(listed))


class Forward:
    """Runs the backbone, and the classifier at the sizes of the label maps, on batches of image files.

    Attributes:
        device: Where the networks run.
        batch_size: Images in a batch; may be lowered if a batch does not fit into the device's memory.
    """

    def __init__(self, config: BuildConfig) -> None:
        self._config = config
        self.batch_size = config.batch_size
        self.device = pick_device(config.device)
        places = "embedded" if sees_whole_only(config.classifier) else config.classifier
        self._own = own = config.backbone == places == "embedded"
        self._label_maps = named_folder(config, "label_maps")
        sizes = ([] if own else [config.label_map_size]) + ([config.scan_size] if config.scan_size else [])
        if self._label_maps is not None and config.names_by_backbone:
            sizes = []  # no classifier is applied at each location
        self._byproducts = named_folder(config, "byproducts")
        self._networks: list[Backbone] = [
            make_backbone(config),
            *(make_classifier(config, size, self.device) for size in sizes),
        ]
        self._classifiers = slice(0 if own else 1, len(self._networks))
        self._naming = self._networks[0]
        self._naming_size = config.image_size if config.naming_network is None else config.label_map_size
        if config.naming_network is not None:
            self._naming = make_naming(config, config.naming_network)
            self._networks.append(self._naming)
        self._whole = make_whole(config)
        self._pool = ThreadPoolExecutor(config.workers or available_cpus())
        self._alone = threading.Lock()

    def credits(self) -> list[dict[str, str]]:
        """Return the source and licence of each network, for the dataset card."""
        found = [{"source": network.source, "licence": network.licence} for network in self._networks]
        found += self._whole.credits() if self._whole else []
        return [credit for k, credit in enumerate(found) if credit not in found[:k]]

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()

    def batches(self, images: Sequence[ImageInput], reader: ImageReader, clock: Clock) -> Iterator[ForwardBatch]:
        """Yield all images in batches; images of one batch that differ in kind come apart, not in order."""
        for chosen, decoded in self.decoded(images, reader, clock):
            yield self.see(chosen, decoded, clock)

    def decoded(
        self, images: Sequence[ImageInput], reader: ImageReader, clock: Clock
    ) -> Iterator[tuple[list[ImageInput], list[Decoded]]]:
        """Yield the decoded images of each batch, while threads decode the next ones."""
        start = 0
        ahead: deque[tuple[Sequence[ImageInput], list[Future[Decoded]]]] = deque()
        while start < len(images) or ahead:
            while start < len(images) and len(ahead) < _AHEAD:
                batch = images[start : start + self.batch_size]
                start += len(batch)
                futures = [self._pool.submit(clock.timed, "decode", self._decode, reader, image) for image in batch]
                ahead.append((batch, futures))
            batch, futures = ahead.popleft()
            decoded = clock.timed("wait for decoding", lambda futures=futures: [f.result() for f in futures])
            for chosen in _of_one_kind(batch, decoded):
                yield [batch[k] for k in chosen], [decoded[k] for k in chosen]

    @torch.inference_mode()
    def see(self, images: Sequence[ImageInput], decoded: Sequence[Decoded], clock: Clock) -> ForwardBatch:
        """Return the networks' maps of decoded images of one kind. Threads may call it at the same time."""
        maps = clock.timed("forward", self._see, decoded)
        labelled = images[0].label is not None
        opinion = clock.timed("ensemble", self._see_whole, decoded, labelled)
        whole, places = (opinion, None) if labelled else (None, opinion)
        return ForwardBatch(images, decoded, maps, whole, places)

    def _decode(self, reader: ImageReader, listed: ImageInput) -> Decoded:
        try:
            return self._decoded(reader, listed)
        except (ImageError, MemoryError) as error:
            if not _lacks_memory(error):
                return _unusable(reader, listed, error)
        with self._alone:  # other large images may have taken the memory
            try:
                return self._decoded(reader, listed)
            except (ImageError, MemoryError) as error:
                return _unusable(reader, listed, error)

    def _decoded(self, reader: ImageReader, listed: ImageInput) -> Decoded:
        image, content = reader.loaded(listed)
        scale, size = scaled_once(image), (image.height, image.width)
        sides = [network.input_size(image) for network in self._networks]
        if self._own and len(sides) == 2 and sides[0] == sides[1] and self._naming is self._networks[0]:
            sides = sides[:1]  # the image is too small for a second size
        tensors = tuple(map(scale, sides))
        label_map, label_map_status = self._label_map(listed)
        clicks, byproduct_status = self._clicks(listed)
        has_label = listed.label is not None
        opinion = tuple(map(scale, self._whole.input_sizes(image, has_label=has_label))) if self._whole else ()
        return Decoded(
            tensors, size, "ok", None, content, label_map, label_map_status, clicks, byproduct_status, opinion,
            self._versions(image, listed.image_id),
        )  # fmt: skip

    def _versions(self, image: Image.Image, image_id: str) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        """Return the inputs of an image's augmented versions, the same ones each time."""
        if not self._config.augment:
            return ()
        found = []
        for k in range(self._config.feature_variants):
            random = np.random.default_rng(int(digest([image_id, "augmented", k])[:15], 16))
            changed, places = augmented(image, self._naming_size, random)
            found.append((input_of(self._naming, changed), torch.from_numpy(places)))
        return tuple(found)

    def _label_map(self, listed: ImageInput) -> tuple[torch.Tensor | None, str]:
        if self._label_maps is None:
            return None, "computed"
        try:
            return densify(read_label_map(self._label_maps, listed.image_id)), "ok"
        except LabelMapError as error:
            return None, error.status

    def _clicks(self, listed: ImageInput) -> tuple[tuple[Click, ...], str | None]:
        if self._byproducts is None or listed.label is None:
            return (), None
        try:
            return tuple(read_clicks(self._byproducts, listed.image_id)), "ok"
        except ByproductError as error:
            return (), error.status

    def _see(self, decoded: Sequence[Decoded]) -> Maps | None:
        readable = [d.tensors for d in decoded if d.tensors]
        if not readable:
            return None
        sides = [tensor.shape[1] for tensor in readable[0]]
        columns = dict(zip(sides, zip(*readable, strict=True), strict=True))  # networks of one size share a column
        batches = {side: sent(torch.stack(tensors), self.device) for side, tensors in columns.items()}
        seen = [network(batches[side]) for network, side in zip(self._networks, sides, strict=False)]
        self._synchronise()
        if self.device.type == "mps":  # an Apple GPU runs the networks only: it has no float64
            seen = [maps.to(torch.device("cpu")) for maps in seen]
        named_by = seen[self._classifiers]
        if self._config.names_by_backbone:
            named_by = seen[:1] if self._config.naming_network is None else seen[-1:]
        features = tuple(f for maps in named_by for f in maps.features)
        if self._label_maps is not None:
            label_maps: tuple[torch.Tensor, ...] = (self._read_maps(decoded),)
        else:
            label_maps = tuple(m for maps in seen[self._classifiers] for m in maps.label_maps)
        return Maps(
            seen[0].patches, features, label_maps, self._see_versions([d.versions for d in decoded if d.tensors])
        )

    def _see_versions(
        self, versions: Sequence[tuple[tuple[torch.Tensor, torch.Tensor], ...]]
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        """Return the features of each augmented version of all images, and where their places come from."""
        found = []
        for version in zip(*versions, strict=True):
            batch, places = (sent(torch.stack(parts), self.device) for parts in zip(*version, strict=True))
            features, home = self._naming(batch).features[0], torch.device("cpu")
            found.append((features.to(home), places.to(home)) if self.device.type == "mps" else (features, places))
        return tuple(found)

    def _see_whole(self, decoded: Sequence[Decoded], labelled: bool) -> torch.Tensor | None:
        """Return the opinion on whole images of the readable ones, all with an original label or all without one."""
        readable = [d.opinion for d in decoded if d.tensors]
        if self._whole is None or not readable:
            return None
        batches = [sent(torch.stack(tensors), self.device) for tensors in zip(*readable, strict=True)]
        return self._whole.see_whole(batches) if labelled else self._whole.see_places(batches)

    def _read_maps(self, decoded: Sequence[Decoded]) -> torch.Tensor:
        """Return the label maps read from files, (B, K, h, w): NaN for an image without one, area means of other sizes."""
        found = [d.label_map for d in decoded if d.tensors]
        size = next(((m.shape[1], m.shape[2]) for m in found if m is not None), (1, 1))
        none = torch.full((NUM_CLASSES, *size), torch.nan)
        maps = torch.stack([none if m is None else adaptive_avg_pool2d(m, size) for m in found])
        return maps if self.device.type == "mps" else maps.to(self.device)

    def _synchronise(self) -> None:
        """Wait for the device, so that timings measure its work and not only the submission."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
