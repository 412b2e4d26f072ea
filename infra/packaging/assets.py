"""The one entry point: build what is stale, and say where it is.

Nothing here imports the CDK, which is but one reader of these folders.
"""

import fcntl
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.packaging import bytecode, tree
from infra.packaging.contents import FUNCTIONS, LAYERS, LOCK, PROJECT, is_needed
from infra.packaging.lock import PackagingError, requirements_of

PLATFORMS = {"aarch64": "aarch64-manylinux2014", "x86_64": "x86_64-manylinux2014"}
"""The processors that Lambda has, as `uname -m` calls them; and as uv does."""
PYTHON = (3, 13)
OUT = PROJECT / "build/assets"
SOURCES = (
    (PROJECT / "functions", "functions"),
    (PROJECT / "layers/metering/python/metering", "metering"),
)
"""Our code, and what it is called in the asset."""
_UV = PROJECT / ".tools/bin/uv"


@dataclass(frozen=True, slots=True)
class Asset:
    """One folder to be built."""

    name: str
    made_from: str
    """Equal if and only if everything that it is made from is."""
    fill: Callable[[Path], None]


def built(platform: str = "aarch64", out: Path | None = None) -> dict[str, Path]:
    """The folders of `functions`, `runtime` and `stripe`, built anew where their inputs changed.

    `functions` is a function's code (`/var/task`); the others are layers and hold a folder
    `python`. They stand in `build/assets/<platform>`, or in `out`. Safe to call from several
    processes at once: one builds, the others wait.

    Raises:
        PackagingError: what is needed to build is not there; the message says what to do.
    """
    if platform not in PLATFORMS:
        raise PackagingError(f"platform must be one of {', '.join(PLATFORMS)}, not {platform!r}")
    if sys.version_info[:2] != PYTHON:
        raise PackagingError(
            "bytecode for Lambda is written by Python 3.13; run `make setup`, then .venv/bin/python"
        )
    folder = (out or OUT) / platform
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".lock"):
        return {asset.name: _up_to_date(asset, folder) for asset in _assets(platform)}


def _assets(platform: str) -> Iterator[Asset]:
    ways = tree.fingerprint_of(_files_of_source(Path(__file__).parent), sys.version)
    ours = [path for source, _ in SOURCES for path in _files_of_source(source)]
    yield Asset(FUNCTIONS, tree.fingerprint_of(ours, ways, *map(str, _names(ours))), copy_ours)
    requirements = requirements_of(LOCK.read_text())
    for layer in LAYERS:
        text = requirements[layer.name]
        made_from = tree.fingerprint_of([], ways, platform, text)
        yield Asset(layer.name, made_from, _installing(text, platform))


def _up_to_date(asset: Asset, folder: Path) -> Path:
    """Where the asset stands; a stamp beside it says from what it was made."""
    final, stamp = folder / asset.name, folder / f"{asset.name}.stamp"
    if stamp.exists() and final.is_dir() and stamp.read_text() == asset.made_from:
        return final
    stamp.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{asset.name}-") as building:
        made = Path(building) / asset.name
        made.mkdir()
        asset.fill(made)
        tree.settle(made)
        if final.exists():
            final.rename(Path(building) / "old")
        made.rename(final)
    stamp.write_text(asset.made_from)
    return final


def copy_ours(folder: Path) -> None:
    """Fill a folder with our modules and their bytecode."""
    for source, name in SOURCES:
        for path in _files_of_source(source):
            copy = folder / name / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    _compile(folder, "/var/task")


def _files_of_source(source: Path) -> list[Path]:
    """Our modules; nothing else of ours is read at run time."""
    return [path for path in tree.files_of(source) if path.suffix == ".py"]


def _names(files: list[Path]) -> Iterator[Path]:
    return (path.relative_to(PROJECT) for path in files)


def _installing(requirements: str, platform: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        packages = folder / "python"
        _install(requirements, platform, packages)
        for path in tree.files_of(packages):
            if not is_needed(path.relative_to(packages)):
                path.unlink()
        _remove_empty(packages)
        _compile(packages, "/opt/python")

    return fill


def _install(requirements: str, platform: str, into: Path) -> None:
    if not _UV.exists():
        raise PackagingError("uv is not in .tools; run `make setup`, which puts it there")
    options = {
        "--target": str(into),
        "--python-platform": PLATFORMS[platform],
        "--python-version": ".".join(map(str, PYTHON)),
        "--only-binary": ":all:",
        "--link-mode": "copy",  # files that are settled here must not be those of uv's cache
        "--requirements": "-",
    }
    words = [word for option in options.items() for word in option]
    # No dependency is looked for: the lock file names them all.
    command = [str(_UV), "pip", "install", "--quiet", "--no-deps", "--require-hashes", *words]
    _run(command, "uv could not install the lock file's packages", requirements)


def _compile(folder: Path, prefix: str) -> None:
    command = [sys.executable, "-I", "-S", bytecode.__file__, str(folder), prefix]
    _run(command, "a module cannot be compiled", env={"PYTHONHASHSEED": "0"})


def _run(
    command: list[str], trouble: str, said: str = "", *, env: Mapping[str, str] | None = None
) -> None:
    done = subprocess.run(  # noqa: S603 (our own tools, by their paths)
        command, input=said, text=True, capture_output=True, check=False, env=env, cwd=PROJECT
    )
    if done.returncode:
        raise PackagingError(f"{trouble}:\n{done.stdout}{done.stderr}")


def _remove_empty(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
