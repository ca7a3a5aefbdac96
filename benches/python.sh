#!/usr/bin/env bash
# Prints a Python with the packages of benches/peers/requirements.txt: ATLAS_PYTHON, or one that is
# made once in the cache (5 GB).
set -euo pipefail
[ -z "${ATLAS_PYTHON:-}" ] || { echo "$ATLAS_PYTHON"; exit; }
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
wanted=$root/benches/peers/requirements.txt
cache=${ATLAS_DEPS:-${XDG_CACHE_HOME:-$HOME/.cache}/atlas}
folder=$cache/peers-$(sha256sum "$wanted" | cut -c1-16)
if [ ! -e "$folder/ready" ]; then
    echo "installing the Python stack to measure against into $folder" >&2
    rm -rf "$folder"
    python3 -m venv "$folder" >&2
    "$folder/bin/pip" install --quiet --requirement "$wanted" >&2
    touch "$folder/ready"
fi
echo "$folder/bin/python"
