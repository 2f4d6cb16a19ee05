#!/usr/bin/env bash
# Counts the instructions per packet of seal, open, replay window, SA lookup, split and
# coalesce under callgrind, and compares with the committed figures; fails on a regression of
# more than 2 %. With --write the committed figures are replaced.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v valgrind >/dev/null; then
  echo 'valgrind is missing (Debian package valgrind)' >&2
  exit 2
fi
exec cargo run --release --quiet -p vipsec --example instructions -- \
  docs/benchmarks/instructions.txt "$@"
