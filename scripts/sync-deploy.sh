#!/usr/bin/env bash
# Add to .venv what builds and checks deployments; the demo and the local stack go without.
set -euo pipefail
echo "set-up: the CDK and what checks its templates"
.tools/bin/uv pip install --quiet --require-hashes --compile-bytecode --python .venv/bin/python \
  --requirements requirements/deploy.txt
