"""The dataset card: README.md with YAML metadata, filled from the template and the manifest."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

from build.publishing.recipe import recipe
from mlimagenet_data.annotations.card import card_text
from mlimagenet_data.annotations.schema import STATUSES
from mlimagenet_data.classes import ClassTable

__all__ = ["card_writer"]

_TEMPLATE = Path(__file__).parents[2] / "dataset_card.md"
_INTRO = "ImageNet's training images mostly show several objects but carry one label. "
_BODY_MARK = "<!-- card -->\n"  # the text above it explains the template and is left out


def card_writer(manifest: dict[str, Any], classes: ClassTable, *, embed_images: bool) -> Callable[[Path], object]:
    """Return the function that writes the dataset's README.md to a path."""
    text = _TEMPLATE.read_text(encoding="utf-8").partition(_BODY_MARK)[2]
    body = string.Template(text).substitute(_values(manifest["splits"], embed_images))
    title = body.partition("\n")[0].removeprefix("# ")
    card = card_text(body, manifest["splits"], classes, embed_images=embed_images, title=title)
    return lambda path: path.write_text(card, encoding="utf-8")


def _values(splits: dict[str, Any], embed_images: bool) -> dict[str, str]:
    names = sorted(splits)
    config = {name: value for stage in splits[names[-1]]["config"].values() for name, value in stage.items()}
    networks = [network for name in names for network in splits[name]["networks"]]
    networks = [network for k, network in enumerate(networks) if network not in networks[:k]]
    bound = config["max_upscale"]
    trust = "; ".join(f"{name}: {_trust(splits[name]['labeler'])}" for name in names)
    pixels = (
        "This copy includes the image files, in the column `image`; they keep their own terms."
        if embed_images
        else "It contains no pixels: join the rows with your own copy of the images by `image_id` or `file_name`."
    )
    labelled = any(splits[name]["with_original_label"] for name in names)
    return {
        "title": "Multi-label ImageNet" if labelled else "Multi-label annotations",
        "intro": _INTRO if labelled else "",
        "pixels": pixels,
        "config_sha256": ", ".join(f"`{splits[name]['config_sha256'][:16]}`" for name in names),
        "networks": "; ".join(network["source"] for network in networks),
        "licences": "; ".join(f"{network['source']}: {network['licence']}" for network in networks),
        "merged": str(sum(splits[name]["proposals"] - splits[name]["regions"] for name in names)),
        "proposals": str(sum(splits[name]["proposals"] for name in names)),
        "num_regions": str(config["num_regions"]),
        "tau": f"{config['tau']:g}",
        "bound": f" No photograph was scaled to more than {bound:g} times its longer side." if bound else "",
        "labeler": "; ".join(f"{name}: {_labeler(splits[name]['labeler'])}" for name in names),
        **recipe(config, networks, trust),
        "statistics": "\n".join([_STATISTICS_HEAD, *(_statistics(name, splits[name]) for name in names)]),
        "plots": "\n".join(f"![labels, regions and classes of {name}](statistics/{name}.png)" for name in names),
        "statuses": "\n".join(f"- `{name}`: {meaning}." for name, meaning in STATUSES.items()),
    }


def _labeler(facts: dict[str, Any]) -> str:
    kind = {"linear": "a linear classifier", "mlp": "an MLP"}.get(facts.get("head", ""), "")
    if facts["path"] == "trained":
        return f"{kind} that starts from the classifier's head, trained on {facts['aligned']} aligned regions"
    if facts["path"] == "trained_from_nothing":
        return f"{kind} on a backbone's features, trained on {facts['aligned']} aligned regions"
    return "the classifier's own head, not trained further (too few aligned regions)"


def _trust(facts: dict[str, Any]) -> str:
    found = facts["trust"]
    if not found["images"]:
        return "no image has an original label"
    return (
        f"an estimated {found['error']:.1%} of original labels are wrong, and the evidence has the exponent "
        f"{found['weight']:.2f} (from {found['images']} images)"
    )


_STATISTICS_HEAD = (
    "| split | images | readable | regions per image | labels per image | two or more labels | original label confirmed |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


def _statistics(name: str, split: dict[str, Any]) -> str:
    readable = split["statuses"].get("ok", 0) + split["statuses"].get("no_regions", 0)
    several = sum(count for labels, count in split["images_by_number_of_labels"].items() if int(labels) >= 2)
    cells = [
        name,
        str(split["rows"]),
        str(readable),
        _ratio(split["regions"], readable),
        _ratio(split["labels"], readable),
        _share(several, readable),
        _share(split["original_label_found"], split["with_original_label"]),
    ]
    return f"| {' | '.join(cells)} |"


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.2f}" if whole else "-"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"
