"""Publish an annotations folder as a dataset on the Hugging Face Hub.

What leaves is what `build_manifest.json` names, and the manifest itself: the shards of each split, and in its `files` the
card, metadata and statistics. Each must be a regular file, reached without a link, with the bytes, SHA-256 and rows that
the manifest states. Other files in the folder stay there. All of it is checked before the first byte is sent, and what
is sent is hashed once more; the tag comes last.

After an interruption, a second call sends only the remaining files. The token is the one stored by `hf auth login` or set
in $HF_TOKEN; no other source is used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlimagenet_data.annotations.manifest import MANIFEST, breaks_a_set, faults_of_file, foreign_files, listed_files
from mlimagenet_data.annotations.shards import hub_errors, hub_name
from mlimagenet_data.errors import AnnotationError, AnnotationsNotFoundError, MLImageNetError
from mlimagenet_data.files.parquet import open_parquet
from mlimagenet_data.files.reading import file_hash, read_manifest

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["Publication", "prepare", "push"]

_REMOTE_SHARD = re.compile(r"data/[^/]+\.parquet")


@dataclass(frozen=True)
class Publication:
    """A folder to publish, and its files by name: their sizes in bytes and their SHA-256."""

    folder: Path
    files: dict[str, int]
    hashes: dict[str, str]


def prepare(folder: Path, *, with_images: bool = False) -> Publication:
    """Check a folder and list the files to publish; send nothing.

    Args:
        folder: A folder written by `python -m build.run` or `mlimagenet import`.
        with_images: Also publish rows that hold image files.

    Raises:
        AnnotationsNotFoundError: If the manifest is missing, or names no card or no shards.
        AnnotationError: If a file differs from the manifest, a shard is not in it, or the rows hold images and
            `with_images` is not set.
    """
    manifest = read_manifest(folder)
    listed = listed_files(folder, manifest) if manifest else {}
    shards = [name for name, about in listed.items() if about.is_shard]
    if "README.md" not in listed or not shards:
        raise AnnotationsNotFoundError(
            f"{folder}: {MANIFEST} is missing, or names no README.md or no shards; build or import the dataset first"
        )
    for name, about in listed.items():
        for fault in faults_of_file(folder, name, about):
            raise AnnotationError(f"{fault}; build or import again")
    for name in foreign_files(folder, listed):
        if breaks_a_set(name, manifest):
            raise AnnotationError(f"{folder / name}: named as a shard, but {MANIFEST} does not list it; move it away")
    if (folder / MANIFEST).is_symlink():
        raise AnnotationError(f"{folder / MANIFEST}: a link; a dataset's files must be real files in its folder")
    if not with_images and any("image" in open_parquet(folder / name).schema_arrow.names for name in shards):
        raise AnnotationError(
            f"{folder}: the rows hold image files, and ImageNet's terms forbid publishing its images; "
            "if the images are your own, pass --with-images, otherwise build without --embed-images"
        )
    hashes = {name: str(about.sha256) for name, about in listed.items()} | {MANIFEST: file_hash(folder / MANIFEST)}
    return Publication(folder, {name: (folder / name).stat().st_size for name in hashes}, hashes)


def push(
    publication: Publication,
    repository: str,
    *,
    private: bool = False,
    tag: str | None = None,
    api: HfApi | None = None,
) -> str:
    """Create the dataset repository if it does not exist, and upload the folder's files in one commit.

    The same commit deletes shards that are no longer in the folder; other files in the repository are kept.

    Args:
        publication: The files to upload.
        repository: `USER/NAME`, or `hf:USER/NAME`.
        private: Make a new repository private; an existing one keeps its visibility.
        tag: Tag for the new revision; it must not exist yet.
        api: Client to use instead of the default, for tests.

    Returns:
        The dataset's URL.

    Raises:
        AnnotationError: If the repository's name is invalid, or a file changed since `prepare`.
        MLImageNetError: If the Hub cannot be reached or rejects the upload; the message includes its answer.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    repo, revision = hub_name(repository)
    if revision is not None:
        raise AnnotationError(f"{repository}: push makes a new revision; name it with --tag")
    api = api or HfApi(library_name="mlimagenet-data")
    operations: list[Any] = []
    try:
        for name, expected in publication.hashes.items():
            operation = CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(publication.folder / name))
            if operation.upload_info.sha256.hex() != expected:
                raise AnnotationError(f"{publication.folder / name}: changed while it was published; nothing was sent")
            operations.append(operation)
        address = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        there = api.list_repo_files(repo, repo_type="dataset")
        old = [name for name in there if _REMOTE_SHARD.fullmatch(name) and name not in publication.files]
        commit = api.create_commit(
            repo, [*operations, *map(CommitOperationDelete, old)], repo_type="dataset",
            commit_message=f"Annotations, {len(publication.files)} files",
        )  # fmt: skip
        if tag:
            api.create_tag(repo, tag=tag, revision=getattr(commit, "oid", None), repo_type="dataset")
    except MLImageNetError:
        raise
    except hub_errors() as error:
        why = f"{error} {error.__cause__ or ''}".strip()
        raise MLImageNetError(f"{repo}: publishing to the Hub failed: {why}") from error
    return str(address)
