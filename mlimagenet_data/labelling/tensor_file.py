"""Reader of a `torch.save` file that holds one dense tensor and comes from a stranger.

`torch.load(weights_only=True)` runs no code of a file's pickle, but takes whatever memory the file asks for: an archive of
1.2 MB unpacks to gigabytes, and a pickle of 40 bytes allocates a bytearray of any size. This reader knows the two layouts
of `torch.save` (an archive since torch 1.6, a stream of pickles before), the description of a dense tensor in them, and
nothing else. All sizes are checked against the bytes that are there.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

__all__ = ["read_tensor"]

_MOST_PICKLE = 1 << 16  # bytes; a dense tensor's description has under 200
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16, "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64, "ByteStorage": torch.uint8, "CharStorage": torch.int8, "ShortStorage": torch.int16,
    "IntStorage": torch.int32, "LongStorage": torch.int64,
}  # fmt: skip
_PICKLE_ERRORS = (pickle.UnpicklingError, EOFError, LookupError, TypeError, AttributeError, AssertionError,
                  OverflowError, RecursionError, struct.error)  # fmt: skip
_ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, LookupError, EOFError, NotImplementedError, RuntimeError,
                   OverflowError, OSError, struct.error)  # fmt: skip


class _Storage(NamedTuple):
    """What a pickle says of the numbers behind a tensor: their type, their name in the file, how many."""

    dtype: torch.dtype
    key: str
    length: int


class _Described(NamedTuple):
    """What a pickle says of a tensor."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_tensor(content: bytes) -> Tensor:
    """Return the tensor that a file holds, with the file's dtype, on the CPU; it takes no more memory than the file.

    Raises:
        ValueError: If the bytes are not of a `torch.save` file of one dense tensor, or are damaged.
    """
    found, numbers = _from_archive(content) if content[:2] == b"PK" else _from_stream(content)
    dtype, _, count = found.storage
    if len(numbers) != count * dtype.itemsize:
        raise ValueError(f"the tensor needs {count * dtype.itemsize} bytes, but the file has {len(numbers)}")
    if not 1 <= _extent(found) <= count:
        raise ValueError(f"the tensor reaches element {_extent(found)} of {count}")
    if _product(found.size) > count:
        raise ValueError(f"the tensor repeats its {count} elements")
    return torch.frombuffer(bytearray(numbers), dtype=dtype).as_strided(found.size, found.stride, found.offset)


def _from_archive(content: bytes) -> tuple[_Described, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            root = archive.namelist()[0].partition("/")[0]  # torch names it after the file
            if f"{root}/byteorder" in archive.namelist() and _member(archive, f"{root}/byteorder", 16) != b"little":
                raise ValueError("not little-endian")
            found = _described(_unpickled(_member(archive, f"{root}/data.pkl", _MOST_PICKLE))[0])
            return found, _member(archive, f"{root}/data/{found.storage.key}", len(content))
    except _ARCHIVE_ERRORS as error:
        raise ValueError(f"not a valid archive: {type(error).__name__}: {str(error)[:200]}") from error


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > most:
        raise ValueError(f"{name[:80]} declares {info.file_size} bytes; must have at most {most}")
    return archive.read(info)


def _from_stream(content: bytes) -> tuple[_Described, bytes]:
    parts, place = [], 0
    for _ in range(5):  # magic number, version, facts of the system, tensor, storage keys
        part, length = _unpickled(content[place : place + _MOST_PICKLE])
        parts.append(part)
        place += length
        if parts[0] != _LEGACY_MAGIC:
            raise ValueError("not a torch.save file")
    if not isinstance(parts[2], dict) or parts[2].get("little_endian") is not True:
        raise ValueError("not little-endian")
    found = _described(parts[3])
    if parts[4] != [found.storage.key] or content[place : place + 8] != struct.pack("<q", found.storage.length):
        raise ValueError("the tensor's elements are not where they should be")
    return found, content[place + 8 :]


def _described(found: object) -> _Described:
    if not isinstance(found, _Described):
        raise ValueError(f"must hold a dense tensor, not a {type(found).__name__}")
    return found


def _unpickled(content: bytes) -> tuple[Any, int]:
    """Return what a pickle describes, and its length."""
    file = io.BytesIO(content)
    try:
        return _Unpickler(file).load(), file.tell()
    except _PICKLE_ERRORS as error:
        raise ValueError(f"not a pickled tensor: {type(error).__name__}: {str(error)[:200]}") from error


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined, misc] # C's allocates as many places as an opcode names
    """Builds plain values and the descriptions above; no name in the file leads to anything else."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]
    del dispatch[pickle.BYTEARRAY8[0]]  # it allocates what it is told

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _describe
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise ValueError(f"names {module[:80]}.{name[:80]}; must hold a dense tensor of real numbers and nothing else")

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, count = pid[:5]
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str) or not _is_size(count):
            raise ValueError("not the description of a tensor's elements")
        return _Storage(dtype, key, count)


def _describe(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Described:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride) or not all(map(_is_size, numbers)):
        raise ValueError("not the description of a tensor")
    return _Described(storage, offset, tuple(size), tuple(stride))


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _extent(found: _Described) -> int:
    """Return the place after the last element that a tensor reaches; 0 for an empty tensor."""
    if 0 in found.size:
        return 0
    return found.offset + sum((size - 1) * stride for size, stride in zip(found.size, found.stride, strict=True)) + 1


def _product(sizes: tuple[int, ...]) -> int:
    out = 1
    for size in sizes:
        out *= size
    return out
