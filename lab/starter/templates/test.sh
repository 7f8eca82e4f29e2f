#!/usr/bin/env bash
# {{question}}
#
# Arguments are passed to `lab run`, for example --dry-run. LAB names the program (default: lab on PATH).
set -euo pipefail

scenario='{{scenario}}'
lab=${LAB:-lab}

if ! command -v "$lab" >/dev/null; then
  printf '❌ %s: there is no program %s, so nothing was checked\n' "$scenario" "$lab" >&2
  exit 1
fi

# Prints the block TEST RESULTS with one line for each check.
code=0
"$lab" run "$@" "$scenario" || code=$?

case $code in
  0) printf '✅ %s\n' "$scenario" ;;
  1) printf '❌ %s: a check failed\n' "$scenario" ;;
  2) printf '❌ %s: the scenario, an option or an image is wrong, so nothing was checked\n' "$scenario" ;;
  3) printf '❌ %s: this host cannot run the cluster, so nothing was checked\n' "$scenario" ;;
  *) printf '❌ %s: the lab ended with exit code %s, so nothing is known\n' "$scenario" "$code" ;;
esac
exit "$code"
