# The API server by curl, with what the check has in its environment. Sourced by the tests beside it.
# shellcheck shell=bash

if ! command -v curl >/dev/null; then
  echo "❌ there is no curl on PATH, so nothing was checked" >&2
  exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

field() { sed -n "s/^ *$1: *//p" "$KUBECONFIG" | head -n 1; }
field certificate-authority-data | base64 -d >"$work/ca"
field client-certificate-data | base64 -d >"$work/certificate"
field client-key-data | base64 -d >"$work/key"

# api METHOD PATH [FILE]: a request, with a JSON file as its body.
api() {
  local body=()
  if [ $# -eq 3 ]; then body=(--header 'Content-Type: application/json' --data-binary "@$3"); fi
  # For curl, the API server spreads its JSON over lines.
  curl --user-agent own-checks --fail --silent --show-error --max-time 10 --cacert "$work/ca" --cert "$work/certificate" --key "$work/key" \
    --connect-to "::$LAB_KUBERNETES_API" --request "$1" "${body[@]}" "https://$(field tls-server-name):6443$2"
}

pod=/api/v1/namespaces/default/pods/own-wasm
