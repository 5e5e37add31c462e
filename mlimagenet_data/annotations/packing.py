"""Layout of an index record, which packs one image's annotations: a header, then arrays."""

from __future__ import annotations

import numpy as np

from mlimagenet_data.annotations.schema import STATUSES

__all__ = ["HEADER", "LAYOUT", "STATUS_NAMES"]

STATUS_NAMES = tuple(STATUSES)
# A record is this header followed by the arrays of LAYOUT, all little-endian and unaligned.
HEADER = np.dtype([
    ("height", "<i4"), ("width", "<i4"),  # 0 if the file could not be read
    ("original", "<i2"),  # -1 for none
    ("status", "<u2"),  # position in STATUS_NAMES
    ("labels", "<u2"), ("regions", "<u2"), ("name", "<u2"), ("id", "<u2"),  # lengths
    ("topk", "<u4"), ("runs", "<u4"),  # total lengths over all regions
])  # fmt: skip
LAYOUT = (
    # name, type, header field that holds the length
    ("label_class", "<i2", "labels"),
    ("label_score", "<f4", "labels"),
    ("grid_height", "<u2", "regions"),
    ("grid_width", "<u2", "regions"),
    ("cells", "<u4", "regions"),  # number of object cells in the mask
    ("runs_of", "<u4", "regions"),
    ("topk_of", "<u4", "regions"),
    ("best_class", "<i2", "regions"),
    ("best_score", "<f4", "regions"),
    ("topk_class", "<i2", "topk"),
    ("topk_score", "<f4", "topk"),
    # lengths of runs of cells; column-major, background first, an even number of runs per region. Longer runs are split by
    # empty ones.
    ("run", "u1", "runs"),
    ("name", "u1", "name"),
    ("id", "u1", "id"),
)
