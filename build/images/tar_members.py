"""The members of a tar file that may come from a stranger, in file order."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from build.config.options import ConfigError
from mlimagenet_data.files.printing import printable
from mlimagenet_data.files.reading import open_regular

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["TarMember", "TarReader", "tar_structure"]

_MOST_HEADER = 1 << 20  # bytes of one header, with its long names
_MOST_TAIL = 1 << 20  # bytes after the end mark that are looked at
# Errors of tarfile on damaged headers; it documents TarError only.
_ERRORS = (tarfile.TarError, OSError, ValueError, LookupError, OverflowError, RecursionError, TypeError, EOFError)


@dataclass(frozen=True, slots=True)
class TarMember:
    """A member.

    Attributes:
        name: As the tar file has it; a byte that is not UTF-8 is a surrogate.
        kind: `file`, `folder`, `link` or `special file`.
        size: Of its content, in bytes, as declared.
        position: Of its content, in bytes.
        fault: Why its content cannot be read; None if it can.
    """

    name: str
    kind: str
    size: int
    position: int
    fault: str | None


class TarReader:
    """Reads an uncompressed tar file once.

    Args:
        file: The file.
        structure: Takes in the file's size, and each member's name, kind, size, position and modification time.

    Attributes:
        has_end: Whether the file has its end mark; known after the last member.

    Raises:
        ConfigError: On entering or iterating, if the file is not an uncompressed tar file, or is damaged before its end.
    """

    def __init__(self, file: Path, structure: _Hash) -> None:
        self._file, self._structure = file, structure
        self._opened: BinaryIO | None = None
        self._size = 0
        self.has_end = True

    def __enter__(self) -> TarReader:
        try:
            self._opened = open_regular(self._file)
        except OSError as error:
            raise ConfigError(f"images: {self._file}: cannot be read: {error.strerror or error}") from error
        self._size = os.fstat(self._opened.fileno()).st_size
        self._structure.update(f"{self._size}:".encode())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._opened is not None:
            self._opened.close()

    def __iter__(self) -> Iterator[TarMember]:
        assert self._opened is not None
        last = -1
        try:
            archive = tarfile.TarFile(fileobj=_Bounded(self._opened))  # type: ignore[arg-type]
            while (found := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it holds a kilobyte per member
                if found.offset <= last or found.size < 0:
                    raise ValueError(f"the header at byte {found.offset} leads back")
                last = found.offset
                facts = (found.name, found.type, found.size, found.offset_data, found.mtime)
                self._structure.update(repr(facts).encode())
                yield self._member(found)
                if archive.offset > self._size:
                    self.has_end = False
                    return
            self._check_end(archive.offset)
        except ConfigError:
            raise
        except _ERRORS as error:
            raise ConfigError(
                f"images: {self._file}: unreadable as an uncompressed tar file: {printable(str(error))}"
            ) from error

    def read(self, member: TarMember, most_bytes: int) -> bytes:
        """Return a member's content.

        Raises:
            ValueError: If it cannot be read, or has more than `most_bytes` bytes.
        """
        assert self._opened is not None
        if member.fault is not None:
            raise ValueError(member.fault)
        if member.size > most_bytes:
            raise ValueError(f"{member.size} bytes; must have at most {most_bytes}")
        return os.pread(self._opened.fileno(), member.size, member.position)

    def _member(self, found: tarfile.TarInfo) -> TarMember:
        links = found.islnk() or found.issym()
        kind = "file" if found.isfile() else "folder" if found.isdir() else "link" if links else "special file"
        fault = None
        if found.issparse():
            fault = "a sparse member; write the tar file without --sparse"
        elif kind == "file" and found.offset_data + found.size > self._size:
            fault = f"declares {found.size} bytes, but the tar file ends before"
        return TarMember(found.name, kind, found.size, found.offset_data, fault)

    def _check_end(self, offset: int) -> None:
        """Check that nothing follows the last member that could be another one."""
        assert self._opened is not None
        block = os.pread(self._opened.fileno(), tarfile.BLOCKSIZE, offset)
        if block.strip(b"\0"):
            raise ConfigError(
                f"images: {self._file}: damaged: byte {offset} begins no header of a tar file, so the "
                f"{self._size - offset} bytes from there on cannot be listed; get the file again"
            )
        self.has_end = len(block) == tarfile.BLOCKSIZE
        rest = os.pread(self._opened.fileno(), _MOST_TAIL, offset + len(block))
        if rest.strip(b"\0"):
            raise ConfigError(
                f"images: {self._file}: the tar file ends at byte {offset}, but {self._size - offset} more bytes follow, "
                "perhaps of other tar files; pass them as files of their own"
            )


def tar_structure(file: Path) -> str:
    """Return the hash of a tar file's size and headers: the names, kinds, sizes, places and times of its members.

    Raises:
        ConfigError: As `TarReader`.
    """
    structure = hashlib.sha256()
    with TarReader(file, structure) as members:
        for _ in members:
            pass
    return structure.hexdigest()


class _Bounded:
    """A file that refuses to read headers whose declared size would fill the memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        """Read some bytes."""
        if not 0 <= size <= _MOST_HEADER:
            raise tarfile.ReadError(f"a header declares {size} bytes; must have at most {_MOST_HEADER}")
        return self._file.read(size)
