"""Reading of files that may be damaged or come from strangers: regular files, JSON, XML, hashes, manifests, versions."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import stat
import struct
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from mlimagenet_data.errors import AnnotationError, StateError

__all__ = [
    "NotRegularError",
    "file_hash",
    "is_transient",
    "load_tensors",
    "open_regular",
    "parse_json",
    "read_json",
    "read_manifest",
    "read_regular",
    "read_xml",
    "version_of",
]

# Errors of torch.load(weights_only=True) on damaged files, whose bytes its unpickler executes as a program (found by
# `benchmarks.fuzz`).
_TORCH_LOAD_ERRORS = (
    RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError, struct.error,
    pickle.UnpicklingError,
)  # fmt: skip
_MOST_JSON_BYTES = 1 << 28
# Without these, opening a FIFO waits for a writer, and a terminal can become the process's own. Windows has neither.
_OPEN_FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY"))
_KINDS = {
    stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}  # fmt: skip
# What the system says of a file that may well be whole: permissions, disks, mounts and servers, and what this process
# or machine has run out of. Not in the list: ENOENT, ENOTDIR and ELOOP (there is no such file), ENAMETOOLONG and EINVAL
# (the same at every try).
_TRANSIENT = frozenset(
    getattr(errno, name)
    for name in (
        "EACCES", "EPERM", "EIO", "ESTALE", "ENOTCONN", "ETIMEDOUT", "ENODEV", "ENXIO", "EHOSTDOWN", "EHOSTUNREACH",
        "ENETDOWN", "ENETUNREACH", "ENETRESET", "ECONNREFUSED", "ECONNRESET", "ECONNABORTED", "ENOLINK", "EREMOTEIO",
        "ESHUTDOWN", "EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EAGAIN", "EBUSY", "EINTR", "EDEADLK", "ENOLCK",
        "ENOMEDIUM", "ETXTBSY", "ENOKEY", "EKEYEXPIRED", "EKEYREVOKED", "EKEYREJECTED",
    )
    if hasattr(errno, name)
)  # fmt: skip


class NotRegularError(OSError):
    """A FIFO, socket, device or folder in place of a file."""


def is_transient(error: OSError) -> bool:
    """Return whether an error of the system says nothing about the file's content, so that a later try may succeed.

    Decoders also raise OSError, without an error number; that is damage.
    """
    return error.errno in _TRANSIENT


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a file for reading; never wait, as opening a FIFO does, and never touch a device.

    Raises:
        NotRegularError: If it is not a regular file.
        OSError: If it cannot be opened.
    """
    return open(path, "rb", opener=_open)


def read_regular(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """Return a regular file's bytes.

    Args:
        path: The file.
        most_bytes: The largest legal size; a larger file is not read.

    Raises:
        ValueError: If the file has more bytes.
        NotRegularError: If it is not a regular file.
        OSError: If it cannot be read, or shrinks while it is read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise ValueError(f"{os.fspath(path)}: {size} bytes; must have at most {most_bytes}")
        content = file.read(size)
    if len(content) != size:
        raise OSError(errno.EIO, f"only {len(content)} of {size} bytes could be read", os.fspath(path))
    return content


def _open(path: str, flags: int) -> int:
    _check_regular(path, os.stat(path))  # before opening: that alone starts some devices
    number = os.open(path, flags | _OPEN_FLAGS)
    try:
        _check_regular(path, os.fstat(number))  # of the file that was really opened
    except OSError:
        os.close(number)
        raise
    return number


def _check_regular(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "another kind")
        raise NotRegularError(f"{path}: not a regular file ({kind})")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a regular file's bytes, in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_tensors(path: Path) -> Any:
    """Return what a `torch.save` file of tensors holds, on the CPU, without running code of its pickle.

    An archive may declare no more bytes than it has, as torch does not compress. The owner of the process chose this
    file; for files of strangers, use `labelling.tensor_file`.

    Raises:
        ValueError: If it is not such a file, or damaged. The message does not name the file.
        OSError: If it cannot be read.
    """
    import torch

    with open_regular(path) as file:
        try:
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    declared = sum(member.file_size for member in archive.infolist())
                if declared > os.fstat(file.fileno()).st_size:
                    raise ValueError(f"its members declare {declared} bytes, more than the file has")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except (*_TORCH_LOAD_ERRORS, zipfile.BadZipFile, NotImplementedError) as error:
            raise ValueError(f"{type(error).__name__}: {str(error)[:200]}") from error


def parse_json(content: bytes) -> Any:
    """Return the value of a JSON text in UTF-8.

    Raises:
        ValueError: If it is not one, nests too deeply, or holds a number with too many digits.
    """
    if not content:
        raise ValueError("the file is empty")
    try:
        return json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise ValueError("not JSON: it nests too deeply") from error
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error


def read_xml(path: str | os.PathLike[str], most_bytes: int) -> Element:
    """Return the root of an XML file; it takes about 25 times the file's size in memory. Needs defusedxml.

    Raises:
        ValueError: If the file has more than `most_bytes` bytes, is not XML, or declares a document type, which could
            hold entities. The message does not name the file.
        OSError: As for `read_regular`.
    """
    from defusedxml import ElementTree
    from defusedxml.common import DefusedXmlException

    try:
        root: Element = ElementTree.fromstring(read_regular(path, most_bytes), forbid_dtd=True)
    except (ParseError, DefusedXmlException, RecursionError, LookupError) as error:  # LookupError: its encoding
        raise ValueError(f"not readable XML: {type(error).__name__}: {str(error)[:200]}") from error
    except ValueError as error:  # its size, or its encoding
        raise ValueError(str(error).removeprefix(f"{os.fspath(path)}: ")) from error
    return root


def read_json(path: str | os.PathLike[str], most_bytes: int = _MOST_JSON_BYTES) -> dict[str, Any] | None:
    """Return the object in a JSON file of this project's own state; None if there is no file.

    Raises:
        StateError: If the file is not a JSON object, or has more than `most_bytes` bytes.
        OSError: If it cannot be read.
    """
    try:
        return _read_object(path, most_bytes)
    except ValueError as error:
        raise StateError(f"{os.fspath(path)}: damaged: {error}; delete it and run the same command again") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a dataset folder's `build_manifest.json`, which may come from a stranger; `{}` if it does not exist.

    Raises:
        AnnotationError: If it is not a JSON object whose `splits` are objects.
    """
    path = folder / "build_manifest.json"
    try:
        found = _read_object(path, _MOST_JSON_BYTES)
        if found is None:
            return {}
        splits = found.get("splits")
        if not isinstance(splits, dict) or not all(isinstance(split, dict) for split in splits.values()):
            raise ValueError("splits: must be an object of objects")
    except ValueError as error:
        raise AnnotationError(f"{path}: not a build manifest: {error}") from error
    return found


def _read_object(path: str | os.PathLike[str], most_bytes: int) -> dict[str, Any] | None:
    """Return a file's JSON object, None without a file; raise ValueError, without the path, if it is none."""
    try:
        content = read_regular(path, most_bytes)
    except FileNotFoundError:
        return None
    except (NotRegularError, ValueError) as error:
        raise ValueError(str(error).removeprefix(f"{os.fspath(path)}: ")) from error
    found = parse_json(content)
    if not isinstance(found, dict):
        raise ValueError(f"must be a JSON object, not a {type(found).__name__}")
    return found


def version_of(package: str) -> str | None:
    """Return the version of an installed package, None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
