#!/usr/bin/env bash
# Runs the ignored tests, except those that need something that is missing here: their reason
# behind `ignore` names it.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

skip=()
# without NEED: leaves out the tests whose reason contains NEED
without() {
    local names
    mapfile -t names < <(awk -v need="$1" '
        /ignore = "/ { found = index($0, need) }
        found && /^ *fn / { sub(/^ *fn /, ""); sub(/\(.*/, ""); print; found = 0 }
    ' tests/*.rs tests/*/*.rs)
    echo "ignored.sh: left out for want of $1: ${names[*]}" >&2
    skip+=("${names[@]/#/--skip=}")
}

[ -n "${ATLAS_PYTHON:-}" ] || without ATLAS_PYTHON
[ -n "${SLURM_CONF:-}" ] || without SLURM_CONF
[ -n "${ATLAS_AXE:-}" ] || without ATLAS_AXE
[ -d ../shared/data ] || without ../shared/data
{ command -v valgrind >/dev/null && grep -q avx2 /proc/cpuinfo; } || without valgrind
command -v npm >/dev/null || without npm
command -v chromedriver >/dev/null || without chromedriver
[ -e /usr/bin/chromium ] || without chromium
[ ! -e /dev/nvidiactl ] || without "a machine without a GPU"
without "a rank that other tests start" 2>/dev/null # it does nothing by itself
exec cargo test --release --locked -- --ignored --nocapture --test-threads=1 "${skip[@]}" "$@"
