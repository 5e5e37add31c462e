"""Croissant metadata of a published dataset: describes its files and columns to catalogues and loaders.

Format: MLCommons Croissant 1.0, https://docs.mlcommons.org/croissant/docs/croissant-spec.html.
"""

from __future__ import annotations

from typing import Any

__all__ = ["croissant_of"]

_CR = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format", "includes",
    "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated", "replace",
    "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    **{name: f"cr:{name}" for name in _CR},
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}
_COLUMNS = (
    ("image_id", "sc:Text", False, "<wnid>/<stem>, the key to join with a copy of the images"),
    ("file_name", "sc:Text", False, "path inside the split's folder"),
    ("label", "sc:Integer", False, "the original class; null without one"),
    ("height", "sc:Integer", False, "pixels"),
    ("width", "sc:Integer", False, "pixels"),
    ("labels", "sc:Integer", True, "the image's classes, best first"),
    ("scores", "sc:Float", True, "their scores in (0, 1]"),
    ("status", "sc:Text", False, "ok, no_regions, or why the file could not be read"),
)
_CITATION = (
    "Chen, Harun and Kanan: Unlocking ImageNet's Multi-Object Nature: Automated Large-Scale Multilabel Annotation, "
    "arXiv 2603.05729"
)


def croissant_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the content of croissant.json: the files with their hashes, and one record set per split."""
    splits = manifest["splits"]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "mlimagenet",
        "description": "Multi-label, region-grounded annotations of ImageNet's images, made without human labels.",
        "license": "https://www.apache.org/licenses/LICENSE-2.0",
        "url": "https://arxiv.org/abs/2603.05729",
        "version": f"{manifest['schema_version']}.0.0",
        "citeAs": _CITATION,
        "datePublished": "2026",
        "distribution": [item for split in sorted(splits) for item in (_files(split), *_shards(split, splits[split]))],
        "recordSet": [_records(split) for split in sorted(splits)],
    }  # fmt: skip


def _shards(split: str, facts: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "description": f"{file['rows']} rows of the split {split}",
            "contentUrl": f"data/{name}",
            "contentSize": f"{file['bytes']} B",
            "encodingFormat": "application/x-parquet",
            "sha256": file["sha256"],
        }
        for name, file in facts["files"].items()
    ]


def _files(split: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"{split}-files",
        "name": f"{split}-files",
        "description": f"The Parquet files of the split {split}.",
        "encodingFormat": "application/x-parquet",
        "includes": f"data/{split}-*.parquet",
    }


def _records(split: str) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field", "@id": f"{split}/{column}", "name": column, "description": text, "dataType": kind,
            **({"repeated": True} if repeated else {}),
            "source": {"fileSet": {"@id": f"{split}-files"}, "extract": {"column": column}},
        }
        for column, kind, repeated, text in _COLUMNS
    ]  # fmt: skip
    return {
        "@type": "cr:RecordSet",
        "@id": split,
        "name": split,
        "description": "One row per image. The column regions, a list of structures, is left out here.",
        "key": {"@id": f"{split}/image_id"},
        "field": fields,
    }
