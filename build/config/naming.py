"""The options that decide how regions are named: the classifier, the features that the labeler reads, and its training."""

from __future__ import annotations

from dataclasses import dataclass

from build.config.fields import option

__all__ = ["NamingOptions"]


@dataclass(frozen=True, kw_only=True)
class NamingOptions:
    """A part of `BuildConfig`; `--help` and `--help-expert` describe each option."""

    classifier: str = option(
        "embedded", "The network that shows which class is where: it provides the label map, the agreement of regions with the "
        "original label, and the labeler's initial head. embedded, or a timm classifier of ImageNet-1k such as "
        "resnet50.a1_in1k. One that classifies from a class token sees whole images only; the embedded one then does the rest. "
        "none: no classifier, which needs --label-maps and --region-features of another network.",
        group="naming", stage="regions",
    )  # fmt: skip
    label_maps: str | None = option(
        None, "A folder of ReLabel's published label maps (<wnid>/<stem>.pt) to use instead of the classifier's. Images "
        "with no map, or a damaged one, have no alignment scores and no grown regions; the manifest counts them.",
        group="naming", stage="regions", metavar="DIR",
    )  # fmt: skip
    byproducts: str | None = option(
        None, "A folder of ImageNet-AB's annotation byproducts (<wnid>/<stem>.xml). A region that an annotator clicked "
        "trains the labeler even if its alignment is low.",
        group="naming", stage="regions", metavar="DIR",
    )  # fmt: skip
    region_features: str = option(
        "classifier", "The features that the labeler reads. classifier: the classifier's; training starts from its head. "
        "backbone: the backbone's, or a timm name: another backbone's; both with a head trained from scratch.",
        group="naming", stage="regions", metavar="classifier|backbone|NAME",
    )  # fmt: skip
    region_weights: str = option(
        "hub", "The weights of the network that --region-features names, in the forms that --weights takes.",
        group="naming", stage="regions", expert=True,
    )  # fmt: skip
    alignment: float = option(
        0.75, "A region trains the labeler if the label map gives the original label at least this probability in it.",
        group="naming", stage="labeler", expert=True, low=0, high=1,
    )  # fmt: skip
    align_with: str = option(
        "original", "The class that a region must be aligned with. original: its image's original label. any: any class, "
        "for which it then trains the labeler; an image's regions of one class are merged.",
        group="naming", stage="labeler", expert=True, choices=("original", "any"),
    )  # fmt: skip
    head: str = option(
        "linear", "The labeler. mlp: two hidden layers with GELU and dropout, as in the paper; with the classifier's "
        "features, its output is added to that of the classifier's head. If too few classes have aligned regions "
        "to train on (see --help-expert), --head is ignored.",
        group="naming", stage="labeler", choices=("linear", "mlp"),
    )  # fmt: skip
    classifier_weights: str = option(
        "hub", "The weights of a timm classifier, in the forms that --weights takes.",
        group="naming", stage="regions", expert=True,
    )  # fmt: skip
    label_map_size: int = option(
        384, "Input size in pixels of the classifier, if it is not the backbone, and of a network that --region-features names.",
        group="naming", stage="regions", expert=True, low=64, high=2048,
    )  # fmt: skip
    classify_first: bool = option(
        False, "Classify each location and average probabilities over a region, instead of averaging features and "
        "classifying the mean. The classifier's own head then names regions, without a labeler. With features of another "
        "network, the trained labeler classifies --region-patches patches of each region, and their logits are averaged.",
        group="naming", stage="regions", expert=True,
    )  # fmt: skip
    region_patches: int = option(
        32, "The most patches of a region, evenly spread, that the labeler classifies with --classify-first; intermediate "
        "results hold as many feature vectors for each region and each of --feature-variants.",
        group="naming", stage="regions", expert=True, low=1, high=4096,
    )  # fmt: skip
    temperature: float = option(
        1.0, "Divide logits by this before every softmax; below 1, labels are more confident.",
        group="naming", stage="regions", expert=True, low=0.01, high=100,
    )  # fmt: skip
    located: float = option(
        0.5, "Down-weight (x0.1) a class whose label-map peak is outside the region and whose mean inside is less than "
        "this share of the peak. 0 disables it.",
        group="naming", stage="regions", expert=True, low=0, high=1,
    )  # fmt: skip
    feature_variants: int = option(
        0, "Extra versions of each region's features with patches dropped at random, to train the labeler on.",
        group="naming", stage="regions", expert=True, low=0, high=64,
    )  # fmt: skip
    patch_dropout: float = option(
        0.2, "The share of a region's patches dropped in each such version.",
        group="naming", stage="regions", expert=True, low=0, high=0.95,
    )  # fmt: skip
    augment: bool = option(
        False, "See each of --feature-variants in the image cropped, flipped, turned and recoloured at random; each takes a "
        "forward pass. Not with the classifier's features.",
        group="naming", stage="regions", expert=True,
    )  # fmt: skip
    labeler_min_regions: int = option(
        50, "A class is covered if it has at least this many aligned regions. A classifier's head is trained further "
        "only if enough classes are covered; otherwise it would forget the rest.",
        group="naming", stage="labeler", expert=True, low=1,
    )  # fmt: skip
    labeler_min_classes: float = option(
        0.95, "The share of classes that must be covered for the classifier's head to be trained further.",
        group="naming", stage="labeler", expert=True, low=0, high=1,
    )  # fmt: skip
    epochs: int = option(
        10, "The most passes over the aligned regions.",
        group="naming", stage="labeler", expert=True, low=1,
    )  # fmt: skip
    hidden_size: int = option(
        1024, "Width of the MLP's hidden layers.",
        group="naming", stage="labeler", expert=True, low=1, high=65536,
    )  # fmt: skip
    dropout: float = option(
        0.1, "Dropout rate before each of the MLP's hidden layers.",
        group="naming", stage="labeler", expert=True, low=0, high=0.95,
    )  # fmt: skip
    held_out: float = option(
        0.1, "The share of images held out for early stopping and to calibrate scores.",
        group="naming", stage="labeler", expert=True, low=0, high=0.9,
    )  # fmt: skip
    patience: int = option(
        3, "Stop after this many epochs without a lower held-out loss.",
        group="naming", stage="labeler", expert=True, low=1,
    )  # fmt: skip
    class_balance: float = option(
        1.0, "Draw a region with weight count(its class) ** -X: 1 draws all classes equally often, 0 each region once per epoch.",
        group="naming", stage="labeler", expert=True, low=0, high=1,
    )  # fmt: skip
    learning_rate: float = option(
        0.0001, "AdamW's learning rate.",
        group="naming", stage="labeler", expert=True, low=0, high=10,
    )  # fmt: skip
    train_batch_size: int = option(
        256, "Regions per training step.",
        group="naming", stage="labeler", expert=True, low=1,
    )  # fmt: skip
