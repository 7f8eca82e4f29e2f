#!/usr/bin/env bash
# The module answers through the API server.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=tests/own-checks/scripts/api.sh
. ./api.sh

api GET "$pod:8080/proxy/healthz" >/dev/null
echo "✅ the module answers"
