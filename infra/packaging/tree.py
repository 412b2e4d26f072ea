"""Folders as values: the same files with the same bytes are the same asset, wherever they stand."""

import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from zlib import compress

EARLIEST = 315_532_800
"""1980, where zip's calendar begins; every file gets this time, in seconds of the epoch."""
_FILE, _FOLDER = 0o644, 0o755


def files_of(folder: Path) -> list[Path]:
    """All files below, in an order of their own."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def fingerprint(folder: Path) -> str:
    """A hash over every file's path within the folder, permissions and bytes."""
    digest = sha256()
    for path in files_of(folder):
        name, mode = path.relative_to(folder).as_posix(), path.stat().st_mode
        digest.update(f"{name}\0{mode:o}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def fingerprint_of(files: Iterable[Path], *more: str) -> str:
    """A hash over some files' names and bytes, and over texts: what an asset is made from."""
    digest = sha256("\0".join(more).encode())
    for path in files:
        digest.update(f"\0{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def settle(folder: Path) -> None:
    """Give everything below the times and permissions that do not tell when and by whom."""
    for path in _below(folder):
        path.chmod(_FOLDER if path.is_dir() else _FILE)
        os.utime(path, (EARLIEST, EARLIEST))


def _below(folder: Path) -> Iterator[Path]:
    """The folder and all in it, the deepest first: what is put into a folder changes its time."""
    yield from sorted(folder.rglob("*"), reverse=True)
    yield folder


def unpacked_bytes(folder: Path) -> int:
    """What Lambda counts against its limit of 250 MB."""
    return sum(path.stat().st_size for path in files_of(folder))


def packed_bytes(folder: Path) -> int:
    """About what is uploaded, and fetched at a cold start: each file packed as zip packs it."""
    return sum(len(compress(path.read_bytes())) for path in files_of(folder))
