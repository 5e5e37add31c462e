"""Publish an annotations folder as a dataset on the Hugging Face Hub.

huggingface_hub's `upload_folder` uploads the files; after an interruption, a second call sends only the remaining ones.
The token is the one stored by `hf auth login` or set in $HF_TOKEN; no other source is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from mlimagenet_data.errors import AnnotationError, AnnotationsNotFoundError, MLImageNetError
from mlimagenet_data.files.reading import file_hash, read_manifest

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["Publication", "prepare", "push"]

_NAMES = (
    "README.md",
    "build_manifest.json",
    "croissant.json",
    "data/*.parquet",
    "statistics/*.json",
    "statistics/*.png",
)


@dataclass(frozen=True)
class Publication:
    """A folder to publish, and its files (names relative to it) with their sizes in bytes."""

    folder: Path
    files: dict[str, int]


def prepare(folder: Path, *, with_images: bool = False) -> Publication:
    """Check a folder and list the files to publish; send nothing.

    Args:
        folder: A folder written by `python -m build.run` or `mlimagenet import`.
        with_images: Also publish rows that hold image files.

    Raises:
        AnnotationsNotFoundError: If README.md or data/*.parquet is missing.
        AnnotationError: If a file differs from the manifest, or the rows hold images and `with_images` is not set.
    """
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for name in _NAMES
        for path in sorted(folder.glob(name))
        if path.is_file()
    }
    shards = [folder / name for name in files if name.startswith("data/")]
    if "README.md" not in files or not shards:
        raise AnnotationsNotFoundError(f"{folder}: README.md or data/*.parquet is missing; build the dataset first")
    _check_hashes(folder)
    if not with_images and any("image" in pq.read_schema(path).names for path in shards):
        raise AnnotationError(
            f"{folder}: the rows hold image files, and ImageNet's terms forbid publishing its images; "
            "if the images are your own, pass --with-images, otherwise build without --embed-images"
        )
    return Publication(folder, files)


def _check_hashes(folder: Path) -> None:
    for split in read_manifest(folder).get("splits", {}).values():
        for name, facts in split.get("files", {}).items():
            path = folder / "data" / name
            if not path.is_file():
                raise AnnotationError(f"{path}: listed in build_manifest.json, but missing; run the build again")
            if file_hash(path) != facts["sha256"]:
                raise AnnotationError(f"{path}: SHA-256 differs from build_manifest.json; run the build again")


def push(
    publication: Publication,
    repository: str,
    *,
    private: bool = False,
    tag: str | None = None,
    api: HfApi | None = None,
) -> str:
    """Create the dataset repository if it does not exist, and upload the folder's files.

    The same commit deletes shards that are no longer in the folder; other files in the repository are kept.

    Args:
        publication: The files to upload.
        repository: `USER/NAME`.
        private: Make a new repository private; an existing one keeps its visibility.
        tag: Tag for the new revision; it must not exist yet.
        api: Client to use instead of the default, for tests.

    Returns:
        The dataset's URL.

    Raises:
        MLImageNetError: If the Hub cannot be reached or rejects the upload; the message includes its answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import HfHubHTTPError  # type: ignore[attr-defined] # in .errors only in later releases

    transport_error: Any = HfHubHTTPError.__mro__[1]  # of requests, httpx or httpx2, depending on the release
    api = api or HfApi(library_name="mlimagenet-data")
    try:
        address = api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, repo_type="dataset", folder_path=publication.folder,
            allow_patterns=list(publication.files), delete_patterns=["data/*.parquet"],
            commit_message=f"Annotations, {len(publication.files)} files",
        )  # fmt: skip
        if tag:
            api.create_tag(repository, tag=tag, revision=getattr(commit, "oid", None), repo_type="dataset")
    # ValueError: an invalid name or card; RuntimeError: a large file failed, with the reason as its cause
    except (transport_error, OSError, ValueError, RuntimeError) as error:
        why = f"{error} {error.__cause__ or ''}".strip()
        raise MLImageNetError(f"{repository}: publishing to the Hub failed: {why}") from error
    return str(address)
