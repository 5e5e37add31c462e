"""Image datasets on the Hugging Face Hub."""

from __future__ import annotations

__all__ = ["download_parquet"]


def download_parquet(name: str, split: str) -> str:
    """Download the Parquet files of a split, and return their folder; the files may be links into the Hub's cache.

    Args:
        name: `USER/NAME`, or `USER/NAME@REVISION`.
        split: The split.
    """
    from huggingface_hub import snapshot_download

    patterns = [f"data/{split}-*.parquet", f"*/{split}-*.parquet", f"{split}-*.parquet"]
    repo, _, revision = name.partition("@")
    return snapshot_download(repo, repo_type="dataset", revision=revision or None, allow_patterns=patterns)
