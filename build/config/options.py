"""The build's configuration: one frozen dataclass, from which the command line, the YAML file and the fingerprints are made."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from build.config.fields import ConfigError, check, option
from mlimagenet_data.annotations.index import cache_folder

__all__ = ["STAGES", "BuildConfig", "ConfigError", "digest", "from_mapping"]

STAGES = ("regions", "labeler", "labels", "publish")


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Every option of `python -m build.run`; see its `--help`.

    Raises:
        ConfigError: If a value is out of range; the message names option, value and range.
    """

    images: str | None = option(
        None,
        "What to relabel. A folder: class folders named by WordNet id (n01440764) or by class index (0 to 999), with any nesting "
        "of files below; images that lie directly in it have no original label. If it has no class folders but a folder named as "
        "the split (train), that one is taken. Or tar files in WebDataset's form, or Parquet files with the columns image and "
        "label (a file, or a folder of them); hf:USER/NAME downloads a dataset's Parquet files from the Hub.",
        group="input",
        metavar="SOURCE",
    )
    demo: bool = option(
        False,
        "Relabel eight openly licensed photographs that ship in Python packages, instead of --images.",
        group="input",
    )
    unlabelled: bool = option(
        False, "Do not read class names from folder names: no image has an original label.", group="input"
    )
    split: str = option("train", "Name of the split to write.", group="input")
    limit: int = option(
        0,
        "Take only N images, evenly spaced over the sorted list, so that the classes stay covered. 0: all.",
        group="input",
        low=0,
    )
    out: str = option(
        "mlimagenet", "The dataset folder to write. Intermediate results lie in its .build/. Or a URL of any file system that "
        "fsspec knows (s3://bucket/name, gs://...): then runs on other machines see what is done there.", group="output"
    )  # fmt: skip
    work: str | None = option(
        None, "Folder for the working copy of an --out that is a URL. Default: one in the cache folder.", group="output"
    )
    embed_images: bool = option(
        False,
        "Write the image files into the dataset, too. Without it nothing in the output holds pixels.",
        stage="publish",
    )
    push_to_hub: str | None = option(
        None, "Publish the dataset on the Hugging Face Hub when it is done; log in with `hf auth login` or set "
        "HF_TOKEN. `mlimagenet push` does that with a dataset that is there, or says what would be sent.", group="output",
        metavar="USER/NAME"
    )  # fmt: skip
    hub_private: bool = option(False, "--push-to-hub: create it there as a private one.", group="output")
    hub_tag: str | None = option(
        None, "--push-to-hub: name this revision so, such as v1.0.", group="output", metavar="TAG"
    )
    sheet: int = option(
        0, "Draw N images, evenly spaced, with their regions and labels, on a picture sheet beside the output "
        "(OUT-sheet.png). It shows the photographs. The demo draws all of its own.", group="output", low=0
    )  # fmt: skip
    stage: str = option(
        "all",
        "Run one stage only. regions: find object regions in patch features (MaskCut). labeler: fit the head that names them. "
        "labels: name every region and collect the image's labels. publish: write the Parquet dataset and its card.",
        choices=(*STAGES, "all"),
    )
    device: str = option(
        "auto", "Where the networks run; auto takes a CUDA device if there is one.", choices=("auto", "cpu", "cuda")
    )
    workers: int = option(
        0, "Threads that decode images. 0: as many as there are cores. Never changes the result.", low=0
    )
    engine: str = option(
        "local", "local: this machine. ray: all machines of a Ray cluster, which must see images and output under the same paths "
        "(extra: ray).", choices=("local", "ray")
    )  # fmt: skip
    address: str | None = option(
        None, "The Ray cluster's, such as auto or ray://host:10001. Without it, one is started here.", metavar="ADDRESS"
    )
    processes: int = option(
        0, "Workers of the stages regions and labels, each with a device and its own copy of the networks. 0: one for each CUDA "
        "device, or with --engine ray one for each GPU (or CPU) of the cluster.", low=0, high=10_000
    )  # fmt: skip
    attempts: int = option(
        3, "How often workers try a unit (a shard of --shard-size images) before it is given up; a worker that vanishes or hangs "
        "counts half.", low=1
    )  # fmt: skip
    unit_timeout: float = option(
        0.0,
        "Seconds after which a worker that has not finished a unit is taken to hang, and replaced. 0: never.",
        low=0,
        metavar="SECONDS",
    )
    batch_size: int = option(
        8, "Images in one forward and one cut. Changes results by no more than float rounding does.", low=1
    )
    shard_size: int = option(
        256, "Images in one shard of intermediate results: the unit of work, which a resumed run skips or does again.",
        stage="regions", group="run", low=1
    )  # fmt: skip
    num_shards: int = option(
        1, "Do a stage in so many parts, each a run of its own, anywhere (a SLURM array); with --stage regions or --stage labels "
        "and --shard-index.", low=1, high=100_000
    )  # fmt: skip
    shard_index: int = option(0, "The part to do: 0 to --num-shards - 1.", low=0)
    seed: int = option(0, "Seed of the labeler's training.", stage="labeler", group="run", low=0)

    backbone: str = option(
        "embedded",
        "The network whose patch features are cut into regions. embedded: EfficientNet-Lite0, which comes in a PyPI package and "
        "needs no download; or a timm name such as vit_large_patch16_dinov3.lvd1689m, vit_base_patch14_reg4_dinov2.lvd142m, "
        "vit_base_patch8_224.dino or convnext_base.dinov3_lvd1689m.",
        stage="regions",
    )
    classifier: str = option(
        "embedded", "The network that sees which class is where: it gives the label map, and the features and the head that name "
        "regions. embedded, or the timm name of an ImageNet classifier that averages over places, such as resnet50.a1_in1k or "
        "convnext_tiny.fb_in22k_ft_in1k.", stage="regions"
    )  # fmt: skip
    classifier_weights: str = option("hub", "Weights of a timm classifier, as --weights takes them.", stage="regions")
    weights: str = option(
        "hub", "Weights of a timm backbone. hub: timm downloads them; FILE: a file of its state dict (safetensors or .pth); "
        "random: none, to try a setting out.", stage="regions"
    )  # fmt: skip
    patch_features: str = option(
        "tokens", "What of a transformer is cut. tokens: the last block's normalised patch tokens. keys: the keys of its "
        "attention, as in MaskCut.", stage="regions", choices=("tokens", "keys")
    )  # fmt: skip
    region_features: str = option(
        "classifier", "Whose features of a region the labeler reads. classifier: those of --classifier, whose head then is its "
        "start. backbone: the backbone's; a head for them is trained from nothing.",
        stage="regions", choices=("classifier", "backbone")
    )  # fmt: skip
    image_size: int = option(
        384, "Images are scaled to this many pixels a side (aspect ratio not kept, as in MaskCut). The embedded backbone cuts "
        "on a grid of a 16th of it, a transformer on one of its patches.", stage="regions", low=16, high=4096
    )  # fmt: skip
    label_map_size: int = option(
        384, "Pixels a side of what the classifier sees for the label map, where it is not the backbone, too.",
        stage="regions", low=64, high=2048
    )  # fmt: skip
    label_maps: str | None = option(
        None, "Folder of ReLabel's published label maps (<wnid>/<stem>.pt), used in place of the classifier's. Images "
        "without one, or with a damaged one, get no alignment and no grown regions; the manifest counts them.", stage="regions"
    )  # fmt: skip
    byproducts: str | None = option(
        None, "Folder of ImageNet-AB's annotation byproducts (<wnid>/<stem>.xml). The region that an annotator clicked on trains "
        "the labeler, whatever its alignment; the manifest tells how often the two agree.", stage="regions"
    )  # fmt: skip
    scan_size: int = option(
        640, "Pixels a side at which the classifier looks at the image once more, for smaller objects. 0: not.",
        stage="regions", low=0, high=2048
    )  # fmt: skip
    peaks: int = option(
        8, "At most so many more regions an image, grown from places where the label map shows a class, best first. 0: none.",
        stage="regions", low=0, high=100
    )  # fmt: skip
    peak_score: float = option(
        0.04, "Probability that a class must reach somewhere in the label map to get a region.", stage="regions", low=0, high=1
    )  # fmt: skip
    second_look: str = option(
        "none", "crop: the classifier sees each region's box once more, by itself at 224 pixels, and half of the region's "
        "features are what it sees there. masked: likewise, with other pixels greyed out.",
        stage="regions", choices=("none", "crop", "masked")
    )  # fmt: skip
    precision: str = option(
        "fp32",
        "Of a timm network's forward: bf16 and fp16 are autocast.",
        stage="regions",
        choices=("fp32", "bf16", "fp16"),
    )
    compile: bool = option(
        False,
        "Run a timm backbone through torch.compile: some minutes once, then a faster forward on GPUs.",
        stage="regions",
    )
    feature_variants: int = option(
        0, "Versions of each region's features with --patch-dropout of its patches left out, drawn anew for each version and "
        "kept for the labeler's training.", stage="regions", low=0, high=64
    )  # fmt: skip
    patch_dropout: float = option(
        0.2, "Share of a region's patches left out of such a version.", stage="regions", low=0, high=0.95
    )
    num_regions: int = option(
        3, "MaskCut's rounds N: at most so many regions an image. A round whose mask is empty, too small or a repetition is "
        "dropped.", stage="regions", low=1, high=20
    )  # fmt: skip
    tau: float = option(
        0.3, "Patches whose features' cosine similarity is at least tau are joined in the affinity graph that is cut in two. "
        "It does not carry over from one backbone to another; see --calibrate-tau.", stage="regions", low=-1, high=1
    )  # fmt: skip
    calibrate_tau: int = option(
        0, "Choose tau from N images, evenly spaced: the one that finds most regions which both neighbouring values of tau find, "
        "too (IoU >= 0.5), an image. 0: take --tau.", stage="regions", low=0
    )  # fmt: skip
    min_area: float = option(
        0.01, "A region covering no more than this share of the image is dropped.", stage="regions", low=0, high=1
    )
    max_iou: float = option(
        0.5,
        "A region whose IoU with an earlier one of the image is higher is dropped as a repetition.",
        stage="regions",
        low=0,
        high=1,
    )
    classify_first: bool = option(
        False, "Classify each place of the label map and average probabilities over a region, in place of averaging features "
        "and classifying the mean. Regions are then named by the classifier itself, without a labeler.", stage="regions"
    )  # fmt: skip
    temperature: float = option(
        1.0, "Logits are divided by it before every softmax: below 1, labels are more confident.",
        stage="regions", low=0.01, high=100
    )  # fmt: skip

    located: float = option(
        0.5, "A class counts little (a tenth) for naming a region if its best place in the label map lies outside, and what the "
        "map sees inside is, on average, less than this share of that: networks see beyond the region. 0: all count fully.",
        stage="regions", low=0, high=1
    )  # fmt: skip

    alignment: float = option(
        0.75, "A region trains the labeler if the label map gives the image's original label at least this probability in it "
        "(the region's alignment).", stage="labeler", low=0, high=1
    )  # fmt: skip
    labeler_min_regions: int = option(
        50, "Regions a class needs to count as covered. The backbone's own head is trained further only if enough classes are "
        "covered (--labeler-min-classes): from fewer it would forget the others. The run says which path it took.",
        stage="labeler", low=1
    )  # fmt: skip
    labeler_min_classes: float = option(
        0.95,
        "Share of the label space's classes that must be covered before the head is trained.",
        stage="labeler",
        low=0,
        high=1,
    )
    head: str = option(
        "linear", "The labeler. mlp: two hidden layers with GELU and dropout (the paper's); beside a classifier's head they add "
        "to it, starting from nothing.", stage="labeler", choices=("linear", "mlp")
    )  # fmt: skip
    hidden_size: int = option(1024, "Width of the MLP's hidden layers.", stage="labeler", low=1, high=65536)
    dropout: float = option(0.1, "Share of hidden units dropped in training.", stage="labeler", low=0, high=0.95)
    epochs: int = option(10, "Most passes over the aligned regions.", stage="labeler", low=1)
    held_out: float = option(
        0.1, "Share of the images whose regions are not trained on, but decide when training stops, and calibrate the scores.",
        stage="labeler", low=0, high=0.9
    )  # fmt: skip
    patience: int = option(
        3, "Training stops after so many epochs without a lower held-out loss.", stage="labeler", low=1
    )
    class_balance: float = option(
        1.0, "Regions are drawn with weights (their class's number of regions) ** -X. 0: each once an epoch; 1: all classes "
        "equally often.", stage="labeler", low=0, high=1
    )  # fmt: skip
    learning_rate: float = option(1e-4, "AdamW's learning rate.", stage="labeler", low=0, high=10)
    train_batch_size: int = option(256, "Regions in one training step.", stage="labeler", low=1)

    top_k: int = option(5, "Classes kept for each region.", stage="labels", low=1, high=1000)
    label_threshold: float = option(
        0.13, "A class becomes a label of the image if its best score over regions (and the whole image) is at least this.",
        stage="labels", low=0, high=1
    )  # fmt: skip
    added_threshold: float = option(
        0.4, "Where there is an original label, other classes must reach this, too: images that were chosen for one object show "
        "others less often than a classifier believes.", stage="labels", low=0, high=1
    )  # fmt: skip
    confusion: float = option(
        0.25, "Classes whose weights in the head are at least this alike (cosine, after taking off their mean) are taken for one "
        "in a region: the best of them is named, with the sum of their scores. 1: no classes are.", stage="labels", low=0, high=1
    )  # fmt: skip
    merge_iou: float = option(
        0.85, "Of regions with the same best class whose IoU is at least this, only the one with the best score is published. "
        "Above 1: all are.", stage="labels", low=0, high=2
    )  # fmt: skip
    reject: float = option(
        0.02, "A region whose best score is below this shows nothing that ImageNet has a name for, and is not published.",
        stage="labels", low=0, high=1
    )  # fmt: skip
    whole_image: bool = option(
        True, "Let the whole image's prediction count beside the regions'. It always counts where there are no regions.",
        stage="labels"
    )  # fmt: skip
    original: str = option(
        "keep", "The original label, where the pipeline does not find it by itself. keep: it is added with the whole image's "
        "score for it. drop: it is not.", stage="labels", choices=("keep", "drop")
    )  # fmt: skip

    def __post_init__(self) -> None:
        for declared in fields(self):
            check(BuildConfig, declared, getattr(self, declared.name))
        if self.shard_index >= self.num_shards:
            raise ConfigError(f"shard_index: {self.shard_index} is not in 0 to {self.num_shards - 1} (num_shards - 1)")
        if self.num_shards > 1 and self.stage not in ("regions", "labels"):
            raise ConfigError(
                f"num_shards: stage {self.stage} cannot be done in parts; pass --stage regions or --stage labels"
            )
        if self.second_look != "none" and self.names_by_backbone:
            raise ConfigError("second_look: only the classifier looks again; use --region-features classifier")
        if self.classify_first and (self.second_look != "none" or self.names_by_backbone or self.label_maps):
            raise ConfigError(
                "classify_first: goes with none of --second-look, --region-features backbone and --label-maps"
            )
        if not self.split or not self.split.replace("_", "").isalnum():
            raise ConfigError(f"split: {self.split!r}; letters, digits and _ only, since it becomes part of file names")

    def stage_settings(self, stage: str) -> dict[str, Any]:
        """Return the options that change a stage's output."""
        return {o.name: getattr(self, o.name) for o in fields(self) if o.metadata["stage"] == stage}

    @property
    def names_by_backbone(self) -> bool:
        """Whether regions are named by the features of a backbone that is not the classifier, too."""
        return self.region_features == "backbone" and not self.backbone == self.classifier == "embedded"

    @property
    def is_remote(self) -> bool:
        """Whether the output is not a local folder."""
        return "://" in self.out

    @property
    def folder(self) -> Path:
        """The output folder; of one that is not local, the working copy."""
        if not self.is_remote:
            return Path(self.out)
        return Path(self.work) if self.work else cache_folder() / "builds" / digest(self.out.rstrip("/"))[:16]

    def as_dict(self) -> dict[str, Any]:
        """Return all options."""
        return dataclasses.asdict(self)


def from_mapping(values: dict[str, Any], source: str | Path) -> dict[str, Any]:
    """Return options read from a file, with `-` in names turned into `_`.

    Raises:
        ConfigError: If a name is unknown; the message names the closest one.
    """
    known = {declared.name for declared in fields(BuildConfig)}
    out = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{source}: unknown option {key!r}{hint}")
        out[name] = value
    return out


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
