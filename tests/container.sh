#!/usr/bin/env bash
# The image from outside: built as an ordinary user from HEAD, run as one, and by two ranks under
# Slurm where a cluster is up (SLURM_CONF). Root lends itself a user `builder` and installs
# Apptainer; anybody else needs both. About 15 minutes on two cores, nearly all of it compiling;
# ATLAS_IMAGE names an image that is there already, which is then tested instead of a new one.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$here")

say() { printf 'container: %s\n' "$*" >&2; }
fail() {
    say "FAILED: $*"
    exit 1
}

if [ "$(id -u)" = 0 ]; then
    "$root/containers/apptainer.sh"
    # with a range in /etc/subuid, as useradd gives to every user
    id builder >/dev/null 2>&1 || useradd --create-home builder
    grep -q '^builder:' /etc/subuid ||
        usermod --add-subuids 100000-165535 --add-subgids 100000-165535 builder
    home=$(getent passwd builder | cut -d: -f6)
    user() { runuser -u builder -- env HOME="$home" "$@"; }
elif command -v apptainer >/dev/null; then
    user() { "$@"; }
else
    say "skipped: no apptainer here"
    exit 0
fi

# What an ordinary user would have: a clone, libtorch, a toolchain; in a folder with a blank in its
# name.
area=$(mktemp -d "${TMPDIR:-/tmp}/atlas container.XXXXXX")
tmp=$(mktemp -d "${TMPDIR:-/tmp}/atlas-container.XXXXXX") # debootstrap takes no blank
trap 'rm -rf -- "$area" "$tmp"' EXIT
chmod 755 "$area" "$tmp"

# link FILE... FOLDER: copies, without taking space where that can be
link() { cp -al -- "$@" 2>/dev/null || cp -a -- "$@"; }
sysroot=$(rustc --print sysroot)
mkdir "$area/rust"
link "$sysroot/bin" "$sysroot/lib" "$area/rust/"
link "$(realpath -- "$root/.deps")" "$area/deps"
git clone --quiet "$root" "$area/clone"
ln -s ../deps "$area/clone/.deps"
mkdir "$area/home"
[ "$(id -u)" != 0 ] || chown -R builder: "$area/clone" "$area/home" "$tmp"
cd "$area/home"
build_in() {
    local tmp=$1
    shift
    user env APPTAINER_TMPDIR="$tmp" "$area/clone/containers/build.sh" --offline \
        --rust "$area/rust" "$@"
}
build() { build_in "$tmp" "$@"; }

# refuses EXIT_CODE WORDS COMMAND...: fails with that code and one line that has the words
refuses() {
    local code=0 said wanted=$1 words=$2
    shift 2
    said=$("$@" 2>&1) || code=$?
    [ "$code" = "$wanted" ] || fail "$* exits $code, not $wanted: $said"
    if [ "$(wc -l <<<"$said")" != 1 ] || [[ "$said" != *"$words"* ]]; then fail "$* says: $said"; fi
}

say "errors say in one line what to do"
refuses 2 "unknown option" build --nonsense
refuses 2 "lacks its value" build --base
refuses 1 "with blanks" build_in "$area/home"
refuses 1 "apptainer is missing" user env PATH=/usr/bin:/bin "$area/clone/containers/build.sh"
refuses 1 "no toolchain" build --rust "$area/home"
refuses 1 "setup.sh --cuda" build --cuda
user rm "$area/clone/README.md"
refuses 1 "commit or stash" build
user git -C "$area/clone" checkout --quiet README.md

say "interrupted, it leaves nothing"
build image.sif >"$area/log" 2>&1 &
while kill -0 $! && ! grep -q 'Starting build' "$area/log"; do sleep 0.2; done
sleep 5 # so that debootstrap is at it
pid=$(pgrep --oldest --full "bash $area/clone/containers/build.sh") ||
    fail "it ended too early: $(tail -n 3 "$area/log")"
kill -TERM "$pid"
code=0
wait $! || code=$?
[ "$code" = 143 ] || fail "exit code $code"
[ -z "$(find "$tmp" "$area/home" -mindepth 1)" ] ||
    fail "remaining files: $(find "$tmp" "$area/home" -mindepth 1 -maxdepth 2)"

image=${ATLAS_IMAGE:-$area/home/image.sif}
if [ -z "${ATLAS_IMAGE:-}" ]; then
    say "building; its %test makes a data set and runs the pipeline"
    build image.sif
    [ -z "$(find "$tmp" -mindepth 1)" ] ||
        fail "remaining files: $(find "$tmp" -mindepth 1 -maxdepth 2)"
    before=$(stat -c %Y.%i "$image")
    say "again"
    SECONDS=0
    build image.sif
    if [ "$SECONDS" -ge 20 ] || [ "$(stat -c %Y.%i "$image")" != "$before" ]; then
        fail "the same commit was built twice"
    fi
fi
atlas=(apptainer --quiet exec "$image" atlas)

say "as an ordinary user"
[[ "$(user "${atlas[@]}" --version)" == "atlas "* ]] || fail "atlas --version"
user apptainer --quiet test "$image" >"$area/log" 2>&1 || fail "%test: $(cat "$area/log")"
unwanted='command -v gcc cc c++ rustc cargo; ldconfig -p | grep libcuda'
[ -z "$(user apptainer --quiet exec "$image" sh -c "$unwanted")" ] ||
    fail "a compiler or libcuda in the image"
user apptainer --quiet run "$image" config >"$area/log" || fail "apptainer run"

say "two ranks inside one container"
sets=(--set "paths.work=$area/home/w" --set "paths.results=$area/home/r"
    --set "data.kaggle=$area/home/d" --set threads=1 --set preprocess.size=64
    --set preprocess.shard_samples=20 --set split.folds=2 --set model.arch=se_resnext_tiny
    --set augment.resize=64 --set augment.crop=48
    --set train.epochs=1 --set train.batch=8)
export OMP_WAIT_POLICY=PASSIVE
user "${atlas[@]}" synth --out "$area/home/d" --samples 60 --test 12 --size 64 2>/dev/null
for job in plan preprocess dedup split; do
    user "${atlas[@]}" "$job" "${sets[@]}" >"$area/log" 2>&1 || fail "$job: $(cat "$area/log")"
done

# trains RUN COMMAND...: a training that ends well, as two ranks, without a word of MPI
trains() {
    local run=$1
    shift
    user "$@" train --fold 0 --run "$run" "${sets[@]}" >"$area/log" 2>&1 ||
        fail "$*: $(cat "$area/log")"
    grep -q '"ranks":2' "$area/home/r/$run/fold_0/metrics.jsonl" ||
        fail "$* did not train as two ranks: $(cat "$area/log")"
    ! grep -iE 'pmix|mca|btl|ucx|WARNING' "$area/log" || fail "$* complains (see above)"
}
trains inside apptainer --quiet exec "$image" mpirun -n 2 --oversubscribe --bind-to none atlas

# Each rank in a user namespace of its own, started by the host's MPI.
if mpirun --version 2>/dev/null | grep -q '(Open MPI) 4'; then
    say "a container per rank, from the host's mpirun"
    trains outside mpirun -n 2 --oversubscribe --bind-to none "${atlas[@]}"
fi
if [ -n "${SLURM_CONF:-}" ] && command -v srun >/dev/null; then
    say "a container per rank, on two nodes and on one"
    trains apart srun --mpi=pmix --kill-on-bad-exit=1 -N2 -n2 "${atlas[@]}"
    trains together srun --mpi=pmix --kill-on-bad-exit=1 -N1 -n2 "${atlas[@]}"
    say "the job scripts and the whole pipeline in it"
    cd "$root" # whose settings cargo takes
    ATLAS_IMAGE=$image cargo test --release --locked --test slurm -- --ignored --nocapture \
        --test-threads=1 scripts_run_from a_pipeline_over
else
    say "no Slurm (SLURM_CONF): srun is not tested"
fi
say "passed"
