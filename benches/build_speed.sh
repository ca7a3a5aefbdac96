#!/usr/bin/env bash
# Builds benches/speed.rs and copies it to target/release/speed: Cargo puts a hash into a bench's
# name, and benches/speed.py and benches/gpu.sh need a fixed one, also on a machine without Cargo.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
built=$(cargo bench --locked --no-run --bench speed --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/speed-[^"]*\)".*/\1/p')
mkdir -p target/release
cp -f -- "$built" target/release/speed
