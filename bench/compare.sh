#!/usr/bin/env bash
# Compares Fanfare with every peer found on this machine; see bench/README.md.
#
#   bench/compare.sh                            everything, five rounds, kept in bench/results
#   bench/compare.sh --quick                    one short round
#   bench/compare.sh --work burst-1000 --peer fanfare --peer nchan
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v npm >/dev/null && [ ! -d bench/peers/node_modules ]; then
    (cd bench/peers && npm ci --silent --no-audit --no-fund)
fi
exec cargo bench --quiet --bench compare -- "$@"
