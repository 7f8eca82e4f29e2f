#!/usr/bin/env bash
# The kubelet started the pod at the first attempt.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=tests/own-checks/scripts/api.sh
. ./api.sh

events=$(api GET '/api/v1/namespaces/default/events?fieldSelector=involvedObject.name=own-wasm')
if grep -q FailedCreatePodSandBox <<<"$events"; then
  echo "❌ the sandbox of the pod could not be created" >&2
  exit 1
fi
if ! grep -q '"reason":"Scheduled"\|"reason":"Started"\|"reason":"Pulled"' <<<"$events"; then
  echo "❌ no event says that the pod was started" >&2
  exit 1
fi
echo "✅ the sandbox of the pod was created"
