"""Calibration of tau on a sample of the images, before the regions stage runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from build.config.options import ConfigError, digest
from build.images.listing import ImageInput, evenly_spaced
from build.images.reader import ImageReader
from build.networks.forward import Clock, Forward
from build.ops.calibrate import choose_tau, stability
from build.progress import console, meter
from build.state.plan import Plan, inputs_digest
from mlimagenet_data.files.atomic import write_json
from mlimagenet_data.files.reading import read_json

__all__ = ["with_tau"]


def with_tau(plan: Plan) -> Plan:
    """Return the plan with a calibrated tau, if its configuration asks for it; reuse an earlier choice.

    Raises:
        ConfigError: If no image of the sample is readable.
    """
    config = plan.config
    if not config.calibrate_tau:
        return plan
    sample = evenly_spaced(plan.listing.images, config.calibrate_tau)
    settings = {name: value for name, value in config.stage_settings("regions").items() if name != "tau"}
    path, key = plan.work / "tau.json", digest([settings, inputs_digest(sample)])
    known = read_json(path) or {}
    if known.get("key") != key:
        known = {"key": key, **_calibrate(plan, sample)}
        write_json(path, known)
    console.print(
        f"tau {known['tau']:g}, chosen from {len(sample)} images: {known['regions_that_stay']} stable regions per image"
    )
    return dataclasses.replace(plan, config=dataclasses.replace(config, tau=known["tau"]))


def _calibrate(plan: Plan, sample: list[ImageInput]) -> dict[str, Any]:
    config = plan.config
    forward, counts = Forward(config), []
    try:
        with meter("tau", len(sample)) as progress:
            for seen in forward.batches(sample, ImageReader(plan.listing.root), Clock()):
                if seen.maps is not None:
                    found = stability(
                        seen.maps.patches, num_regions=config.num_regions, min_area=config.min_area,
                        max_iou=config.max_iou,
                    )  # fmt: skip
                    counts.append(found)
                progress.advance(len(seen.images))
    finally:
        forward.close()
    if not counts:
        raise ConfigError(f"calibrate_tau: none of the {len(sample)} sampled images in {plan.listing.root} is readable")
    all_counts = np.concatenate(counts)
    tau = choose_tau(all_counts)
    return {"tau": tau, "images": len(all_counts), "regions_that_stay": round(float(all_counts.mean(axis=0).max()), 3)}
