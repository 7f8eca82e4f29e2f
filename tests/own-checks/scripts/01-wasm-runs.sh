#!/usr/bin/env bash
# A pod with a WebAssembly module becomes Ready.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=tests/own-checks/scripts/api.sh
. ./api.sh

api POST /apis/node.k8s.io/v1/runtimeclasses runtime-class.json >/dev/null
api POST /api/v1/namespaces/default/pods pod.json >/dev/null
for _ in $(seq 40); do
  if api GET "$pod" | grep -q '"type":"Ready"[^}]*"status":"True"'; then
    echo "✅ the pod is Ready"
    exit 0
  fi
  sleep 1
done
echo "❌ the pod is not Ready" >&2
exit 1
