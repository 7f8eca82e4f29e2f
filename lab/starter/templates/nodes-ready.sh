#!/usr/bin/env bash
# Every node of the cluster is Ready. Runs with KUBECONFIG and LAB_NODES in its environment.
set -euo pipefail

if ! command -v kubectl >/dev/null; then
  echo "❌ there is no kubectl on PATH, so nothing was checked" >&2
  exit 1
fi

read -r -a nodes <<<"$LAB_NODES"
for node in "${nodes[@]}"; do
  kubectl wait --for=condition=Ready --timeout=60s "node/$node"
  echo "✅ $node is Ready"
done
