#!/usr/bin/env bash
# Tests that take long or need more than the program: Python (ATLAS_PYTHON names one with torch,
# timm, h5py, opencv and tensorboard), a Slurm, Apptainer, MPICH and Chromium (installed here as
# root on Debian). tests/ignored.sh names the tests that are left out because something is missing.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
export OMP_WAIT_POLICY=PASSIVE # tests run side by side: spinning threads would slow each other down

has() { command -v "$@" >/dev/null; }
if [ "$(id -u)" = 0 ] && has apt-get && ! { has mpicc.mpich && has chromedriver; }; then
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        mpich libmpich-dev chromium chromium-driver >/dev/null
fi
if has npm && npm install --silent --prefix target/axe axe-core@4 >/dev/null; then
    export ATLAS_AXE=$PWD/target/axe/node_modules/axe-core/axe.min.js
fi
tests/with_slurm.sh 4 tests/ignored.sh
tests/with_slurm.sh 4 tests/container.sh

# A few thousand hostile files for each reader; `make fuzz` runs longer.
cargo test --quiet --release --locked --test fuzz -- check
cargo test --quiet --release --locked --test fuzz -- run --executions 3000

# The tests of ranks once more, built against MPICH in a folder of its own.
if has mpicc.mpich; then
    export MPICC=mpicc.mpich ATLAS_MPIRUN=mpiexec.mpich
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/mpich
    cargo test --release --locked --test parallel --test ranks --test nccl
    if ! ldd "$CARGO_TARGET_DIR/release/atlas" | grep -q libmpich; then
        echo "all.sh: that was not MPICH" >&2
        exit 1
    fi
else
    echo "all.sh: no MPICH: the ranks were not tested with it" >&2
fi
