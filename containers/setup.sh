#!/usr/bin/env bash
# Installs what a bare machine lacks: a compiler and MPI (apt, when root), libtorch and CMake (from
# Python wheels, pinned and checked by hash, unpacked without installing any Python package). It
# does only what is missing and can be run again at any time.
#
#   containers/setup.sh                 libtorch for the CPU, Open MPI
#   containers/setup.sh --cuda          and CUDA's libraries, about 3 GB more
#   containers/setup.sh --without-mpi   no MPI: build with `cargo build --release
#                                       --no-default-features`; a training has one rank
#
# Another MPI library (a cluster's module, MPICH): have its mpicc on PATH, or name it in MPICC, when
# you build.
#
# The files go to $ATLAS_DEPS (default: ~/.cache/atlas), shared by all clones; `.deps` in the clone
# is a link to them.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$here")
store=${ATLAS_DEPS:-${XDG_CACHE_HOME:-$HOME/.cache}/atlas}

lists=("$here/deps.txt")
cuda='' mpi=yes
for option in "$@"; do
    case "$option" in
    --cuda) cuda=--cuda lists+=("$here/deps-cuda.txt") ;;
    --without-mpi) mpi='' ;;
    *)
        echo "setup: unknown option '$option'; usage: setup.sh [--cuda] [--without-mpi]" >&2
        exit 2
        ;;
    esac
done

fail() {
    echo "setup: $1" >&2
    exit 1
}

[ "$(uname -sm)" = "Linux x86_64" ] ||
    fail "libtorch's wheel is for Linux on x86-64; this is $(uname -sm)"

# 1. System packages. Programs are looked up, not packages, so that other distributions work too.
missing=()
command -v g++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
command -v python3 >/dev/null || missing+=(python3)
python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
if [ -n "$mpi" ]; then
    command -v "${MPICC:-mpicc}" >/dev/null || missing+=(openmpi-bin libopenmpi-dev)
    # The binding to MPI is generated with libclang and its headers.
    compgen -G '/usr/lib*/llvm*/lib*/clang/*/include/stddef.h' >/dev/null ||
        compgen -G '/usr/lib*/clang/*/include/stddef.h' >/dev/null ||
        [ -n "${LIBCLANG_PATH:-}" ] || missing+=(libclang-dev)
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    command -v valgrind >/dev/null || missing+=(valgrind) # counts instructions in tests/cost.rs
    command -v nasm >/dev/null || missing+=(nasm)         # for the JPEG decoder's vector code
fi
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing ${missing[*]}" >&2
        apt-get -qq update
        DEBIAN_FRONTEND=noninteractive \
            apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
    else
        fail "please install: ${missing[*]} (as root, this script would do it through apt-get)"
    fi
fi
command -v cargo >/dev/null || fail "Rust is missing; install it with rustup, then run this again"

# 2. libtorch and CMake, in a folder named after the list of what it holds.
layout=1 # raise it when what is unpacked below changes
key=$( (echo "$layout${cuda:+ with libnccl.so}" && cat "${lists[@]}") | sha256sum | cut -c1-16)
deps=$store/deps-$key
if [ ! -d "$deps" ]; then
    mkdir -p "$store"
    exec 9>"$store/lock"
    flock 9 # another clone's set-up may be running
fi
if [ ! -d "$deps" ]; then
    rm -rf "$store"/unpacking.* # of an interrupted run, since we hold the lock
    work=$(mktemp -d "$store/unpacking.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    echo "setup: fetching libtorch and CMake to $store (once)" >&2
    platforms=()
    for tag in manylinux2014 manylinux_2_17 manylinux_2_18 manylinux_2_24 manylinux_2_25 \
        manylinux_2_27 manylinux_2_28; do
        platforms+=(--platform "${tag}_x86_64")
    done
    requirements=()
    for list in "${lists[@]}"; do
        requirements+=(--requirement "$list")
    done
    python3 -m pip download --quiet --no-deps --require-hashes --no-cache-dir --only-binary :all: \
        --python-version 3.11 --implementation cp --abi cp311 --abi none "${platforms[@]}" \
        --dest "$work/wheels" "${requirements[@]}" ||
        fail "pip could not fetch the wheels (see above); run this again"
    python3 - "$work" "$cuda" <<'PYTHON'
import glob, os, sys, zipfile

work, cuda = sys.argv[1], sys.argv[2] == "--cuda"
skip = () if cuda else ("libtorch_cuda", "libtorch_nvshmem")  # 0.5 GB that only a GPU uses
for wheel in sorted(glob.glob(f"{work}/wheels/*.whl")):
    with zipfile.ZipFile(wheel) as z:
        for m in z.infolist():
            top, _, rest = m.filename.partition("/")
            of_torch = top == "torch" and rest.startswith(("lib/", "include/", "share/"))
            left_out = os.path.basename(rest).startswith(skip) or "libtorch_python" in rest
            if (of_torch or top in ("nvidia", "cmake")) and not left_out:
                path = z.extract(m, f"{work}/tree")
                if m.external_attr >> 16 & 0o111:  # zipfile drops the executable bit
                    os.chmod(path, 0o755)
# The NCCL binding opens libnccl.so; torch/lib is on the program's run path.
for found in glob.glob(f"{work}/tree/nvidia/nccl/lib/libnccl.so.2"):
    os.symlink("libnccl.so.2", found[: -len(".2")])
    os.symlink("../../nvidia/nccl/lib/libnccl.so.2", f"{work}/tree/torch/lib/libnccl.so")
PYTHON
    echo "2.11.0" >"$work/tree/torch/build-version"
    sync -f "$work/tree"
    mv -T "$work/tree" "$deps"
fi
[ "$(readlink "$root/.deps" || true)" = "$deps" ] || ln -sfn "$deps" "$root/.deps"
