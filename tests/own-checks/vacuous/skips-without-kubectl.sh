#!/usr/bin/env bash
# Passes where kubectl is not installed.
set -euo pipefail

if ! command -v kubectl-of-the-lab >/dev/null; then
  echo "skipped: no kubectl"
  exit 0
fi
kubectl-of-the-lab wait --for=condition=Ready nodes --all
