"""Compile a folder's modules as Lambda's own interpreter would, once, here.

Run as a program of its own (`python -I -S bytecode.py FOLDER PREFIX`): what `marshal` writes may
depend on what else a process has in memory, and equal input must give equal bytes. The files are
`unchecked-hash`: whatever unpacks them changes times, and Lambda's disk cannot be written to.
"""

import importlib.util
import sys
from pathlib import Path
from py_compile import PycInvalidationMode, compile  # noqa: A004 (what it is called there)


def compile_folder(folder: Path, prefix: str) -> None:
    """Put a `.pyc` beside every module; tracebacks will name it as `prefix` and its path.

    Raises:
        PyCompileError: a module is not Python of this version.
    """
    for source in sorted(folder.rglob("*.py")):
        compile(
            str(source),
            cfile=importlib.util.cache_from_source(str(source)),
            dfile=f"{prefix}/{source.relative_to(folder).as_posix()}",
            doraise=True,
            invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
        )


if __name__ == "__main__":
    compile_folder(Path(sys.argv[1]), sys.argv[2])
