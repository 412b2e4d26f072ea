#!/usr/bin/env bash
# Put uv into .tools with nothing but a Python on the machine.
set -euo pipefail
[ -x .tools/bin/uv ] && .tools/bin/uv --version | grep -q "$UV_VERSION" && exit 0
echo "set-up: uv $UV_VERSION"
"${PYTHON:-python3}" -m venv .tools
.tools/bin/pip install --quiet "uv==$UV_VERSION" 2> >(grep -v '^WARNING: Location' >&2 || true)
