#!/usr/bin/env bash
# What takes long or needs more than the program: Python (ATLAS_PYTHON names one with torch, timm, h5py, opencv and tensorboard; without it
# those tests skip), a Slurm, Apptainer, MPICH and Chromium (installed here as root on Debian; otherwise those tests skip).
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
export OMP_WAIT_POLICY=PASSIVE # tests run side by side: spinning threads would only hinder each other

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { command -v mpicc.mpich && command -v chromedriver; } >/dev/null; then
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends mpich libmpich-dev chromium chromium-driver >/dev/null
fi
if command -v npm >/dev/null && npm install --silent --prefix target/axe axe-core@4 >/dev/null; then
    export ATLAS_AXE=$PWD/target/axe/node_modules/axe-core/axe.min.js
fi
tests/with_slurm.sh 4 cargo test --release --locked -- --ignored --nocapture --test-threads=1
tests/with_slurm.sh 4 tests/container.sh

# The tests of ranks once more, built against MPICH in a folder of its own.
if command -v mpicc.mpich >/dev/null; then
    export MPICC=mpicc.mpich ATLAS_MPIRUN=mpiexec.mpich CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/mpich
    cargo test --release --locked --test parallel --test ranks --test nccl
    ldd "$CARGO_TARGET_DIR/release/atlas" | grep -q libmpich || { echo "all.sh: that was not MPICH" >&2 && exit 1; }
fi
