"""The lock file, cut into what each layer installs: no package is resolved anew for Lambda."""

import re
from collections.abc import Iterable, Mapping

from infra.packaging.contents import LAYERS, LEFT_OUT


class PackagingError(Exception):
    """The assets cannot be built; the message says why and what to do."""


def requirements_of(lock: str) -> dict[str, str]:
    """Each layer's part of a lock file, hashes and all, by the layer's name.

    Raises:
        PackagingError: the lock file and `contents.py` do not name the same packages.
    """
    entries = _entries(lock)
    homes = [name for layer in LAYERS for name in layer.distributions] + list(LEFT_OUT)
    _check_same(entries, homes)
    return {
        layer.name: "".join(f"{entries[name]}\n" for name in layer.distributions)
        for layer in LAYERS
    }


def _entries(lock: str) -> dict[str, str]:
    """By package: its line with the hashes that follow it, indented."""
    blocks = re.split(r"\n(?=\S)", lock.strip())
    return {block.partition("==")[0]: block for block in blocks}


def _check_same(entries: Mapping[str, str], homes: Iterable[str]) -> None:
    named = sorted(homes)
    homeless = sorted(entries.keys() - set(named))
    gone = sorted(set(named) - entries.keys())
    twice = sorted({name for name in named if named.count(name) > 1})
    if homeless or gone or twice:
        raise PackagingError(
            "requirements/functions.txt and infra/packaging/contents.py differ: packages without a"
            f" layer {homeless}, layers' packages that the lock file has not {gone}, named twice"
            f" {twice}; put each package of the lock file into one layer or into LEFT_OUT"
        )
