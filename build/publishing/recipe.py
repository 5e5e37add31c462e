"""The sentences of a dataset card that depend on how the regions were found and named."""

from __future__ import annotations

from typing import Any

from build.ops.peaks import LEVELS

__all__ = ["recipe"]

_OPINION = "; {} has a quarter of the weight"
_TRUST = """\
- In images without an original label, a class is a label if its best score over regions and the whole image is at least
  {label_threshold:g}{opinion}. In images with one, another class is added if its probability for the whole image is at least
  {added_threshold:g}{ensemble}. The original label is {original}.
- The score of an original label is the probability that a person would agree with it. It follows from the classifier's
  probabilities of the original and of the best other class, and from two numbers that were fitted without human labels:
  {trust}."""
_REGIONS = """\
- A class is a label if it is among the {top_k} best of a region with a score of at least {label_threshold:g}{whole}. The
  original label plays no part in this; an image may lack it, or have no label at all.
- Scores are the labeler's softmax. They are not calibrated."""
_ORIGINAL = {
    "keep": "always kept, with a low score where it is probably wrong",
    "drop": "left out where it is more likely wrong than right",
}


def recipe(config: dict[str, Any], networks: list[dict[str, str]], trust: str) -> dict[str, str]:
    """Return the card's sentences on regions and labels by the names that the template gives them.

    Args:
        config: All settings of the build.
        networks: Source and licence of its networks.
        trust: How far original labels are trusted.
    """
    return {
        "sizes": f"{config['image_size']} x {config['image_size']} pixels{_naming_size(config)}",
        "cutler": ", by CutLER's own rules" if config["maskcut"] == "original" else "",
        "grown": _grown(config),
        "addition": "; the grown regions are an addition" if config["peaks"] or config["grow_original"] else "",
        "named": _named(config),
        "aligned": _aligned(config),
        "rules": _rules(config, networks, trust),
    }


def _naming_size(config: dict[str, Any]) -> str:
    if config["region_features"] in ("classifier", "backbone"):
        return ""
    return f", and to {config['label_map_size']} x {config['label_map_size']} for the network that names regions"


def _grown(config: dict[str, Any]) -> str:
    where = []
    if config["peaks"]:
        scan = f"(also at {config['scan_size']} x {config['scan_size']} pixels) " if config["scan_size"] else ""
        where.append(
            f"up to {config['peaks']} more were grown, along the patches' similarities, from locations where a classifier, "
            f"applied densely\n{scan}to the image, finds a class"
        )
    if config["grow_original"]:
        verb = "" if where else "more were grown, along the patches' similarities, "
        where.append(f"{verb}{len(LEVELS)} from where it sees the original label")
    text = ", and ".join(where)
    return f" {text[0].upper()}{text[1:]}." if text else ""


def _named(config: dict[str, Any]) -> str:
    trained_from_nothing = config["region_features"] != "classifier"
    if config["classify_first"] and trained_from_nothing:
        text = f"the mean of its logits for up to {config['region_patches']} patches"
    else:
        text = "the mean of its\n" + ("probabilities at each location" if config["classify_first"] else "features")
    return text + (", down-weighting classes that peak outside it" if config["located"] else "")


def _aligned(config: dict[str, Any]) -> str:
    maps = (
        "ReLabel's label map" if config["label_maps"] else "the label map (the classifier's scores for each location)"
    )
    if config["align_with"] == "any":
        return (
            f"{maps} gives any class a\n  probability of at least {config['alignment']:g} in it. It trains the labeler for that "
            "class; regions of one class are merged"
        )
    return f"{maps} gives the original label a\n  probability of at least {config['alignment']:g} in it"


def _rules(config: dict[str, Any], networks: list[dict[str, str]], trust: str) -> str:
    has_ensemble = any("lite1" in network["source"] for network in networks)
    if config["label_rule"] == "regions":
        whole = ", or if it is the best class of a classifier that sees the whole image and has that score"
        sees_whole = has_ensemble or (config["classifier"] not in ("embedded", "none"))
        return _REGIONS.format(**config, whole=whole if sees_whole else "")
    return _TRUST.format(
        **config,
        trust=trust,
        original=_ORIGINAL[config["unconfirmed"]],
        ensemble=" (the normalised geometric mean of three small networks)" if has_ensemble else "",
        opinion=_OPINION.format("two other networks' view of the class") if has_ensemble else "",
    )
