#!/usr/bin/env bash
# Resolve the lock files. They name packages, versions and hashes and no index, so any mirror serves them.
set -euo pipefail
resolve() { .tools/bin/uv pip compile --quiet --universal --python-version 3.13 --generate-hashes --no-header --no-annotate "$@"; }
resolve pyproject.toml -o requirements/functions.txt
resolve pyproject.toml --group dev -c requirements/functions.txt -o requirements/dev.txt
resolve --group deploy -c requirements/dev.txt -o requirements/deploy.txt
resolve --group java -o requirements/java.txt
npm install --package-lock-only --silent --no-fund --no-audit --omit-lockfile-registry-resolved
