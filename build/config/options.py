"""The build's configuration: one frozen dataclass that makes the command line, the YAML file and the fingerprints."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from build.config.fields import ConfigError, check, option
from build.config.naming import NamingOptions
from mlimagenet_data.annotations.index import cache_folder
from mlimagenet_data.files.printing import shown

__all__ = ["STAGES", "BuildConfig", "ConfigError", "digest"]

STAGES = ("regions", "labeler", "labels", "publish")
_NO_CLASSIFIER = (
    "classifier: none (as in --preset paper) needs --label-maps DIR, and --region-features of another network. Download "
    "ReLabel's label maps of ImageNet's training images (relabel_imagenet.tar) as "
    "https://github.com/naver-ai/relabel_imagenet describes, unpack them, and pass the folder that holds <wnid>/<stem>.pt"
)


@dataclass(frozen=True, kw_only=True)
class BuildConfig(NamingOptions):
    """Every option of `python -m build.run`; `--help` and `--help-expert` describe them.

    Raises:
        ConfigError: If a value is out of range or two options exclude each other; the message names option, value and range.
    """

    images: str | None = option(
        None, "The images to relabel. A folder with class folders named by WordNet id (n01440764) or class index (0 to "
        "999); images directly in it get the class that their file name starts or ends with, or none. Or a .tar "
        "file in WebDataset form, a .parquet file with a column image and, optionally, label, or a folder of .tar "
        "or of .parquet files. If a folder contains a subfolder with the split's name (train), that subfolder is "
        "used. hf:USER/NAME downloads a Hub dataset's Parquet files.",
        group="input", metavar="SOURCE",
    )  # fmt: skip
    demo: bool = option(
        False, "Relabel eight openly licensed photographs that ship in Python packages, instead of --images.",
        group="input",
    )  # fmt: skip
    unlabelled: bool = option(
        False, "Do not read classes from folder names or file names: no image has an original label.",
        group="input",
    )  # fmt: skip
    split: str = option(
        "train", "The name of the split to write.",
        group="input",
    )  # fmt: skip
    check_content: bool = option(
        False, "Hash the files of images whose size and times are unchanged, too, and do changed ones again.",
        group="input", expert=True,
    )  # fmt: skip
    limit: int = option(
        0, "Relabel only N images, evenly spaced over the list of images. 0 takes all.",
        group="input", low=0,
    )  # fmt: skip

    out: str = option(
        "mlimagenet", "The dataset folder to write; intermediate results go to its .build/. Or a URL that fsspec can write "
        "(s3://bucket/name, gs://...), so that machines without a common disk can work on one build.",
        group="output", metavar="DIR|URL",
    )  # fmt: skip
    embed_images: bool = option(
        False, "Copy the image files into the dataset. Otherwise the dataset contains no pixels.",
        group="output", stage="publish",
    )  # fmt: skip
    sheet: int = option(
        0, "Draw N evenly spaced images with their regions and labels in OUT-sheet.png, beside the dataset. It "
        "contains the photographs. The demo draws all its images if N is 0.",
        group="output", low=0,
    )  # fmt: skip
    work: str | None = option(
        None, "The local working copy of an --out that is a URL. Default: a folder in the cache.",
        group="output", expert=True, metavar="DIR",
    )  # fmt: skip

    stage: str = option(
        "all", "The stage to run. regions: find object regions (MaskCut). labeler: fit the head that names them. labels: "
        "name every region and collect each image's labels. publish: write the Parquet dataset and its card.",
        group="running", choices=(*STAGES, "all"),
    )  # fmt: skip
    device: str = option(
        "auto", "Where the networks run; auto uses CUDA if available. mps: Apple GPUs.",
        group="running", choices=("auto", "cpu", "cuda", "mps"),
    )  # fmt: skip
    workers: int = option(
        0, "Threads that decode images. 0: one per CPU core.",
        group="running", low=0,
    )  # fmt: skip
    batch_size: int = option(
        8, "Images per forward pass. It affects results only through float rounding.",
        group="running", low=1,
    )  # fmt: skip
    processes: int = option(
        0, "Worker processes for the stages regions and labels, each with its own device and networks. 0: one per "
        "CUDA device, or this process alone without CUDA; with --engine ray, one per GPU (or CPU) of the cluster.",
        group="running", low=0, high=10000,
    )  # fmt: skip
    engine: str = option(
        "local", "local: this machine. ray: every machine of a Ray cluster; all must see images and output under the same "
        "paths (needs the extra `ray`).",
        group="running", choices=("local", "ray"),
    )  # fmt: skip
    address: str | None = option(
        None, "The Ray cluster to join, such as auto or ray://host:10001. Default: start one on this machine.",
        group="running", metavar="ADDRESS",
    )  # fmt: skip
    num_shards: int = option(
        1, "Split a stage into N parts (unrelated to --shard-size), each its own run on any machine (a SLURM array). "
        "Use with --shard-index and --stage regions or labels.",
        group="running", low=1, high=100000,
    )  # fmt: skip
    shard_index: int = option(
        0, "The part to run: 0 to --num-shards minus 1.",
        group="running", low=0,
    )  # fmt: skip
    seed: int = option(
        0, "Random seed of the labeler's training.",
        group="running", stage="labeler", low=0,
    )  # fmt: skip
    attempts: int = option(
        3, "Tries per unit (--shard-size images) before it counts as failed. A try that ends because its worker died "
        "or hung counts as half. Only with worker processes or Ray.",
        group="running", expert=True, low=1,
    )  # fmt: skip
    unit_timeout: float = option(
        0.0, "Replace a worker that spends more than this many seconds on a unit; 0: never. Only with worker processes "
        "or Ray.",
        group="running", expert=True, low=0, metavar="SECONDS",
    )  # fmt: skip
    shard_size: int = option(
        256, "Images per unit of work, the smallest piece that a resumed run skips or repeats; unrelated to "
        "--num-shards.",
        group="running", stage="regions", expert=True, low=1,
    )  # fmt: skip

    backbone: str = option(
        "embedded", "The network whose patch features are cut into regions. embedded: EfficientNet-Lite0, which is installed "
        "with this project. Or a timm name such as vit_large_patch16_dinov3.lvd1689m, "
        "vit_base_patch14_reg4_dinov2.lvd142m or vit_base_patch8_224.dino.",
        group="regions", stage="regions",
    )  # fmt: skip
    weights: str = option(
        "hub", "The weights of a timm backbone. hub: timm downloads them. FILE: a state dict (.safetensors or .pth). "
        "random: untrained, to test a setting.",
        group="regions", stage="regions", metavar="hub|FILE|random",
    )  # fmt: skip
    image_size: int = option(
        384, "Input size of the backbone in pixels, square; the aspect ratio is not kept, as in MaskCut. The embedded "
        "backbone's patch grid is 1/16 of it.",
        group="regions", stage="regions", low=16, high=4096,
    )  # fmt: skip
    scan_size: int = option(
        640, "A second, larger input size at which the classifier looks for small objects. 0 disables it.",
        group="regions", stage="regions", low=0, high=2048,
    )  # fmt: skip
    num_regions: int = option(
        3, "Number of MaskCut rounds; each finds at most one region.",
        group="regions", stage="regions", low=1, high=20,
    )  # fmt: skip
    tau: float = option(
        0.3, "The similarity threshold for connecting two patches (cosine); tune it for each backbone with "
        "--calibrate-tau.",
        group="regions", stage="regions", low=-1, high=1,
    )  # fmt: skip
    calibrate_tau: int = option(
        0, "Choose tau by trying several values on N evenly spaced images: the one with the most regions per image "
        "that both neighbouring values also find is used. 0 uses --tau.",
        group="regions", stage="regions", low=0,
    )  # fmt: skip
    max_upscale: float = option(
        1.5, "Never scale a photograph to more than this multiple of its longer side (rounded up to a multiple of 32 "
        "pixels); smaller sizes then replace --image-size, --scan-size and --label-map-size. 0: no bound. Transformers "
        "take one size only and ignore it.",
        group="regions", stage="regions", expert=True, low=0, high=16,
    )  # fmt: skip
    peaks: int = option(
        8, "The most additional regions per image, grown where the classifier sees a class. 0: none; MaskCut alone needs "
        "--no-grow-original as well.",
        group="regions", stage="regions", low=0, high=100,
    )  # fmt: skip
    grow_original: bool = option(
        True, "Grow a region, at several sizes, from where the label map sees the original label.",
        group="regions", stage="regions", expert=True,
    )  # fmt: skip
    maskcut: str = option(
        "ours", "The rules of MaskCut's rounds. original: CutLER's own, to compare regions with published ones; they "
        "depend on the signs of eigenvectors.",
        group="regions", stage="regions", expert=True, choices=("ours", "original"),
    )  # fmt: skip
    patch_features: str = option(
        "tokens", "Transformer features to cut. tokens: the normalised patch tokens of the last block. keys: its attention "
        "keys, as in MaskCut.",
        group="regions", stage="regions", expert=True, choices=("tokens", "keys"),
    )  # fmt: skip
    precision: str = option(
        "auto", "Precision of timm networks, their weights included. auto: bf16 on CUDA, else fp32; keep a build on one kind "
        "of device then.",
        group="regions", stage="regions", expert=True, choices=("auto", "fp32", "bf16", "fp16"),
    )  # fmt: skip
    compile: bool | None = option(
        None, "Run a timm backbone through torch.compile: minutes at the start, then faster on GPUs. Default: on CUDA only.",
        group="regions", stage="regions", expert=True,
    )  # fmt: skip
    min_area: float = option(
        0.01, "Drop a region that covers no more than this share of the image.",
        group="regions", stage="regions", expert=True, low=0, high=1,
    )  # fmt: skip
    max_iou: float = option(
        0.5, "Drop a MaskCut region whose IoU with an earlier one of its image is higher.",
        group="regions", stage="regions", expert=True, low=0, high=1,
    )  # fmt: skip
    peak_score: float = option(
        0.04, "Grow a region for a class that reaches this probability anywhere in the label map.",
        group="regions", stage="regions", expert=True, low=0, high=1,
    )  # fmt: skip

    label_threshold: float = option(
        0.13, "In an image without an original label, a class becomes a label if its best score over the regions and "
        "the whole image is at least this.",
        group="labels", stage="labels", low=0, high=1,
    )  # fmt: skip
    added_threshold: float = option(
        0.35, "In an image with an original label, another class becomes a label if its probability for the whole image "
        "is at least this. With the embedded classifier, that is the mean of three networks.",
        group="labels", stage="labels", low=0, high=1,
    )  # fmt: skip
    unconfirmed: str = option(
        "keep", "What to do with an original label that is more likely wrong than right. keep: publish it with its low "
        "score. drop: leave it out.",
        group="labels", stage="labels", choices=("keep", "drop"),
    )  # fmt: skip
    label_rule: str = option(
        "trust", "How an original label counts. trust: the labels beside it come from the whole image, and it is likelier in "
        "regions. regions: it does not; a class that a region has among its --top-k with at least --label-threshold is a label, "
        "and so is the best class of a classifier that sees whole images.",
        group="labels", stage="labels", expert=True, choices=("trust", "regions"),
    )  # fmt: skip
    top_k: int = option(
        5, "Classes kept per region.",
        group="labels", stage="labels", expert=True, low=1, high=1000,
    )  # fmt: skip
    confusion: float = option(
        0.25, "Treat classes whose head weights are at least this similar (cosine, mean removed) as one in a region: the "
        "best of them is named, with the sum of their scores. 1 disables it.",
        group="labels", stage="labels", expert=True, low=0, high=1,
    )  # fmt: skip
    merge_iou: float = option(
        0.85, "Without an original label, publish only the best of several regions with the same best class and at "
        "least this IoU. Above 1, all are published.",
        group="labels", stage="labels", expert=True, low=0, high=2,
    )  # fmt: skip
    reject: float = option(
        0.02, "Without an original label, do not publish a region whose best score is below this: it probably shows "
        "nothing that ImageNet names.",
        group="labels", stage="labels", expert=True, low=0, high=1,
    )  # fmt: skip

    labelled_merge_iou: float = option(
        0.45, "In an image with an original label, publish only the best of several regions with at least this IoU, "
        "whatever their classes. Above 1, all are published.",
        group="labels", stage="labels", expert=True, low=0, high=2,
    )  # fmt: skip
    labelled_reject: float = option(
        0.1, "In an image with an original label, do not publish a region whose best score is below this.",
        group="labels", stage="labels", expert=True, low=0, high=1,
    )  # fmt: skip

    def __post_init__(self) -> None:
        for declared in fields(self):
            check(BuildConfig, declared, getattr(self, declared.name))
        if self.demo and self.images:
            raise ConfigError("demo: pass --demo or --images, not both")
        if self.shard_index >= self.num_shards:
            raise ConfigError(f"shard_index: {self.shard_index} must be below num_shards ({self.num_shards})")
        if self.num_shards > 1 and self.stage not in ("regions", "labels"):
            raise ConfigError(
                f"num_shards: stage {self.stage} does not run in parts; pass --stage regions or --stage labels"
            )
        if self.classify_first and self.label_maps and not self.names_by_backbone:
            raise ConfigError("classify_first: with --label-maps, it needs --region-features of another network")
        if self.region_features == "backbone" and not self.names_by_backbone:
            raise ConfigError("region_features: backbone needs a --backbone or --classifier other than embedded")
        if self.augment and not self.names_by_backbone:
            raise ConfigError("augment: needs --region-features backbone or the name of a network")
        if self.classifier == "none" and not (self.label_maps and self.names_by_backbone):
            raise ConfigError(_NO_CLASSIFIER)
        if not self.split or not self.split.replace("_", "").isalnum():
            raise ConfigError(
                f"split: {shown(self.split)}; use letters, digits and _ only, since file names contain it"
            )

    def stage_settings(self, stage: str) -> dict[str, Any]:
        """Return the options that change a stage's output."""
        return {o.name: getattr(self, o.name) for o in fields(self) if o.metadata["stage"] == stage}

    @property
    def names_by_backbone(self) -> bool:
        """Whether regions are named by the features of a network that is not the classifier."""
        if self.region_features == "backbone":
            return not self.backbone == self.classifier == "embedded"
        return self.region_features != "classifier"

    @property
    def naming_network(self) -> str | None:
        """The network that is there only to name regions; None if the backbone or the classifier does."""
        return None if self.region_features in ("classifier", "backbone") else self.region_features

    @property
    def classifies_patches(self) -> bool:
        """Whether the labeler classifies patches of a region one by one, rather than their mean."""
        return self.classify_first and self.names_by_backbone

    @property
    def classifies_places(self) -> bool:
        """Whether the classifier names each location before they are averaged over regions, without a labeler."""
        return self.classify_first and not self.names_by_backbone

    def feature_shape(self, dimension: int) -> tuple[int, ...]:
        """Return the shape of a region's features: (D,), or (S, D) for S patches."""
        return (self.region_patches, dimension) if self.classifies_patches else (dimension,)

    @property
    def is_remote(self) -> bool:
        """Whether the output is a URL."""
        return "://" in self.out

    @property
    def folder(self) -> Path:
        """The output folder, or the local working copy of a remote one."""
        if not self.is_remote:
            return Path(self.out)
        return Path(self.work) if self.work else cache_folder() / "builds" / digest(self.out.rstrip("/"))[:16]

    def as_dict(self) -> dict[str, Any]:
        """Return all options."""
        return dataclasses.asdict(self)


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
