#!/usr/bin/env bash
# The pod ran in the class of the test, and goes away.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=tests/own-checks/scripts/api.sh
. ./api.sh

seen=$(api GET "$pod")
api DELETE "$pod?gracePeriodSeconds=0" >/dev/null
api DELETE /apis/node.k8s.io/v1/runtimeclasses/own-wasm >/dev/null
grep -q '"phase":"Running"' <<<"$seen"
echo "✅ the pod ran and is removed"
