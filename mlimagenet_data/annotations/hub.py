"""Publishes an annotations folder as a dataset on the Hugging Face Hub.

The upload is huggingface_hub's `upload_folder`: run again after an interruption, it sends what is not there yet. The token is
the one that `hf auth login` or $HF_TOKEN left; none is taken from elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from mlimagenet_data.errors import AnnotationError, AnnotationsNotFoundError, MLImageNetError
from mlimagenet_data.files import file_hash, read_manifest

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
    """What would go to the Hub: a folder, and its files (names relative to it) with their sizes in bytes."""

    folder: Path
    files: dict[str, int]


def prepare(folder: Path, *, with_images: bool = False) -> Publication:
    """Check a folder and list what would be published; nothing is sent.

    Args:
        folder: As `python -m build.run` or `mlimagenet import` wrote it.
        with_images: Publish rows that hold image files, too.

    Raises:
        AnnotationsNotFoundError: If there is no README.md or no data/*.parquet.
        AnnotationError: If a file is not what the manifest says, or the rows hold images and `with_images` is not set.
    """
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for name in _NAMES
        for path in sorted(folder.glob(name))
        if path.is_file()
    }
    shards = [folder / name for name in files if name.startswith("data/")]
    if "README.md" not in files or not shards:
        raise AnnotationsNotFoundError(f"{folder}: README.md and data/*.parquet are needed; build the dataset first")
    _check_hashes(folder)
    if not with_images and any("image" in pq.read_schema(path).names for path in shards):
        raise AnnotationError(
            f"{folder}: its rows hold image files. ImageNet's terms do not let you publish its photographs; if these are yours, "
            "pass --with-images, else build without --embed-images"
        )
    return Publication(folder, files)


def _check_hashes(folder: Path) -> None:
    for split in read_manifest(folder).get("splits", {}).values():
        for name, facts in split.get("files", {}).items():
            path = folder / "data" / name
            if not path.is_file():
                raise AnnotationError(f"{path}: build_manifest.json names it, but it is not there; run the build again")
            if file_hash(path) != facts["sha256"]:
                raise AnnotationError(f"{path}: not the file that build_manifest.json names; run the build again")


def push(
    publication: Publication,
    repository: str,
    *,
    private: bool = False,
    tag: str | None = None,
    api: HfApi | None = None,
) -> str:
    """Create the dataset repository if it is not there, and make its content that of the folder.

    Earlier shards that are no longer there are removed in the same commit; files of other kinds are left alone.

    Args:
        publication: What to send.
        repository: `USER/NAME`.
        private: Whether a repository that is created is private; one that exists stays as it is.
        tag: Name the revision so. One of that name must not exist.
        api: The client, for tests.

    Returns:
        The dataset's address.

    Raises:
        MLImageNetError: If the Hub cannot be reached or refuses; the message has its answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import HfHubHTTPError  # type: ignore[attr-defined] # of errors only in later releases

    of_transport: Any = HfHubHTTPError.__mro__[1]  # requests', httpx's or httpx2's, by the release
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
    # ValueError: a name or a card that is not valid; RuntimeError: a large file, with the reason behind it
    except (of_transport, OSError, ValueError, RuntimeError) as error:
        why = f"{error} {error.__cause__ or ''}".strip()
        raise MLImageNetError(f"{repository}: the Hub did not take it: {why}") from error
    return str(address)
