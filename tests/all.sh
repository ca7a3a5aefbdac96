#!/usr/bin/env bash
# What takes long or needs Python. ATLAS_PYTHON names a Python with torch, timm, h5py and opencv; without it those tests skip.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
export OMP_WAIT_POLICY=PASSIVE # tests run side by side: spinning threads would only hinder each other
cargo test --release --locked -- --ignored --nocapture --test-threads=1
