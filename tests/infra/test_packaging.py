"""What is packed: the lock file's packages, our modules, nothing that tells where it was built."""

import marshal
import re
import shutil
import struct
import sys
from pathlib import Path
from types import CodeType

import pytest

from infra.budgets import ASSET_MB, AWS_SDK, INGEST_PATH_MB, MB
from infra.packaging import assets, contents, tree
from infra.packaging.contents import LAYERS, LOCK, is_needed
from infra.packaging.lock import PackagingError, requirements_of

PYC_HEADER = struct.Struct("<4sI8s")
UNCHECKED_HASH = 0b01


@pytest.fixture(scope="session")
def packed() -> dict[str, Path]:
    return assets.built("aarch64")


def codes_of(path: Path) -> list[CodeType]:
    """The module's code and every function's in it."""
    found = [marshal.loads(path.read_bytes()[PYC_HEADER.size :])]
    for code in found:
        found += [one for one in code.co_consts if isinstance(one, CodeType)]
    return found


def test_a_layer_is_the_same_asset_wherever_and_whenever_it_is_built(
    packed: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "LAYERS", (contents.RUNTIME,))  # one speaks for both

    again = assets.built("aarch64", tmp_path)["runtime"]

    assert again != packed["runtime"]
    assert tree.fingerprint(again) == tree.fingerprint(packed["runtime"])


def test_our_code_is_the_same_asset_from_another_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "one"
    here.mkdir()
    assets.copy_ours(here)
    tree.settle(here)
    sources = []
    for source, name in assets.SOURCES:
        copy = tmp_path / "another clone" / name
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        sources.append((copy, name))
    monkeypatch.setattr(assets, "SOURCES", sources)
    elsewhere = tmp_path / "two"
    elsewhere.mkdir()
    assets.copy_ours(elsewhere)
    tree.settle(elsewhere)

    assert tree.fingerprint(here) == tree.fingerprint(elsewhere)


def test_every_module_has_bytecode_of_this_python_that_is_never_checked_against_its_source(
    packed: dict[str, Path],
) -> None:
    for folder in packed.values():
        modules = list(folder.rglob("*.py"))
        assert len(modules) > 100
        for module in modules:
            cache = module.parent / "__pycache__" / f"{module.stem}.cpython-313.pyc"
            _, flags, _ = PYC_HEADER.unpack(cache.read_bytes()[: PYC_HEADER.size])
            assert flags == UNCHECKED_HASH, module


def test_bytecode_names_files_as_lambda_has_them(packed: dict[str, Path]) -> None:
    handler = packed["functions"] / "functions/ingest/__pycache__/handler.cpython-313.pyc"
    layered = packed["stripe"] / "python/requests/__pycache__/api.cpython-313.pyc"

    names = {code.co_filename for path in (handler, layered) for code in codes_of(path)}

    assert names == {"/var/task/functions/ingest/handler.py", "/opt/python/requests/api.py"}


def test_nothing_tells_where_or_when_it_was_built(packed: dict[str, Path]) -> None:
    here = [str(contents.PROJECT).encode(), str(Path(sys.prefix)).encode()]
    for folder in packed.values():
        for path in tree.files_of(folder):
            content = path.read_bytes()
            assert not any(place in content for place in here), path
            assert path.stat().st_mtime == tree.EARLIEST
            assert path.stat().st_mode & 0o777 == 0o644


def test_what_stands_is_not_built_again(packed: dict[str, Path]) -> None:
    before = {name: folder.stat().st_ino for name, folder in packed.items()}

    again = assets.built("aarch64")

    assert {
        name: folder.stat().st_ino for name, folder in again.items() if name != "functions"
    } == {name: inode for name, inode in before.items() if name != "functions"}


def test_layers_hold_the_other_processors_machine_code(packed: dict[str, Path]) -> None:
    libraries = list(packed["runtime"].rglob("*.so")) + list(packed["stripe"].rglob("*.so"))

    assert libraries
    assert all("aarch64" in path.name for path in libraries)


def test_layers_never_hold_the_same_file(packed: dict[str, Path]) -> None:
    held = [
        {path.relative_to(packed[layer.name]) for path in tree.files_of(packed[layer.name])}
        for layer in LAYERS
    ]

    assert not set.intersection(*held)


def test_stripe_is_in_no_other_asset_than_its_layer(packed: dict[str, Path]) -> None:
    assert (packed["stripe"] / "python/stripe/__init__.py").exists()
    assert not (packed["runtime"] / "python/stripe").exists()


def test_assets_weigh_no_more_than_their_budgets(packed: dict[str, Path]) -> None:
    weights = {name: tree.unpacked_bytes(folder) / MB for name, folder in packed.items()}
    sdk = sum(tree.unpacked_bytes(packed["runtime"] / "python" / name) / MB for name in AWS_SDK)

    assert all(weights[name] <= limit for name, limit in ASSET_MB.items()), weights
    assert weights["functions"] + weights["runtime"] - sdk <= INGEST_PATH_MB


def test_each_package_of_the_lock_file_has_one_place() -> None:
    lock = LOCK.read_text()

    assert "stripe==" in requirements_of(lock)["stripe"]
    assert "--hash=sha256:" in requirements_of(lock)["runtime"]


def test_a_package_without_a_place_is_refused_with_what_to_do() -> None:
    lock = LOCK.read_text() + "new-thing==1.0 \\\n    --hash=sha256:00\n"

    with pytest.raises(PackagingError, match=r"without a layer \['new-thing'\].*LEFT_OUT"):
        requirements_of(lock)


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("botocore/data/dynamodb/2012-08-10/service-2.json.gz", True),
        ("botocore/data/ec2/2016-11-15/service-2.json.gz", False),
        ("botocore/data/endpoints.json", True),
        ("requests-2.34.2.dist-info/METADATA", True),
        ("requests-2.34.2.dist-info/licenses/LICENSE", True),
        ("requests-2.34.2.dist-info/RECORD", False),
        ("pydantic_core/_pydantic_core/__init__.pyi", False),
        ("pydantic/py.typed", False),
        ("certifi/tests/test_certify.py", False),
        ("certifi/cacert.pem", True),
        ("bin/normalizer", False),
    ],
)
def test_what_can_never_be_read_on_lambda_is_left_out(path: str, *, needed: bool) -> None:
    assert is_needed(Path(path)) is needed


def test_layers_describe_the_services_that_our_code_makes_clients_of() -> None:
    sources = [path for source, _ in assets.SOURCES for path in source.rglob("*.py")]
    called = {
        service
        for source in sources
        for service in re.findall(r'aws\.client\(\s*"(\w+)"', source.read_text())
    }

    assert called == set(contents.AWS_SERVICES)


def test_an_unknown_platform_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(PackagingError, match="aarch64, x86_64, not 'riscv'"):
        assets.built("riscv")
