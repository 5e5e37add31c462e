"""Image datasets on the Hugging Face Hub."""

from __future__ import annotations

from build.config.options import ConfigError

__all__ = ["download_parquet"]


def download_parquet(name: str, split: str) -> str:
    """Download the Parquet files of a split, and return their folder; the files may be links into the Hub's cache.

    Args:
        name: `USER/NAME`, or `USER/NAME@REVISION`.
        split: The split.

    Raises:
        ConfigError: If the name is none of a dataset.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    patterns = [f"data/{split}-*.parquet", f"*/{split}-*.parquet", f"{split}-*.parquet", "README.md"]
    repo, _, revision = name.partition("@")
    try:
        validate_repo_id(repo)
    except ValueError as error:
        raise ConfigError(f"images: hf:{name}: {error}") from error
    return snapshot_download(repo, repo_type="dataset", revision=revision or None, allow_patterns=patterns)
