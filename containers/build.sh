#!/usr/bin/env bash
# Builds the image of atlas, as an ordinary user, from the commit that is checked out.
#
#   containers/build.sh [OPTION...] [OUTPUT.sif]
#
#   --cuda            with CUDA's libraries, for `apptainer exec --nv`; needs setup.sh --cuda
#   --from-registry   Debian 12 from a registry of container images (the default)
#   --base IMAGE      another name for it than debian:12, such as debian@sha256:... or one with your
#                     own registry in front
#   --offline         Debian 12 by debootstrap, from the mirror that this machine's apt uses
#   --rust FOLDER     another toolchain than `rustc --print sysroot`
#
# OUTPUT is atlas.sif (atlas-cuda.sif) in the clone unless named. It appears whole or not at all; an
# image of this commit is left as it is. Working files, about 8 GB (22 with --cuda), are in
# $APPTAINER_TMPDIR, else $TMPDIR, else /tmp, and are removed.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$here")

say() { printf 'build: %s\n' "$*" >&2; }
fail() {
    say "$1"
    exit "${2:-1}"
}

variant=cpu mode=registry base='' rust='' out='' gigabytes=8
while [ $# -gt 0 ]; do
    case "$1" in
    --cuda) variant=cuda gigabytes=22 ;;
    --from-registry) mode=registry ;;
    --offline) mode=offline ;;
    --base | --rust)
        [ $# -gt 1 ] || fail "$1 lacks its value" 2
        if [ "$1" = --rust ]; then rust=$2; else base=$2; fi
        shift
        ;;
    -*) fail "unknown option '$1'; the head of containers/build.sh lists the options" 2 ;;
    *)
        [ -z "$out" ] || fail "two outputs: '$out' and '$1'" 2
        out=$1
        ;;
    esac
    shift
done
[ "$mode" = registry ] || [ -z "$base" ] ||
    fail "--base names an image of a registry: not with --offline" 2
default=atlas.sif
[ "$variant" = cpu ] || default=atlas-cuda.sif
out=$(realpath -m -- "${out:-$root/$default}")

# The image is made from the commit, not from the working tree.
command -v git >/dev/null || fail "git is missing"
commit=$(git -C "$root" describe --always --abbrev=12) ||
    fail "$root is no clone of the project that git accepts (see above)"
[ -z "$(git -C "$root" status --porcelain --untracked-files=no)" ] ||
    fail "there are uncommitted changes: commit or stash them; the image carries its commit's name"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)

command -v apptainer >/dev/null ||
    fail "apptainer is missing: load your site's module, or on Debian run apptainer.sh as root"
label() { apptainer inspect --labels "$out" 2>/dev/null | sed -n "s/^$1: //p"; }
if [ -f "$out" ] && [ "$(label org.opencontainers.image.revision)" = "$commit" ] &&
    [ "$(label atlas.variant)" = "$variant" ]; then
    say "$out is of this commit already ($commit)"
    exit 0
fi

# Everything that would fail late is checked now.
fakeroot=()
if [ "$(id -u)" != 0 ]; then
    fakeroot=(--fakeroot)
    user=$(id -un)
    range=100000-165535
    fix="usermod --add-subuids $range --add-subgids $range $user"
    for file in /etc/subuid /etc/subgid; do
        grep -qsE "^($user|$(id -u)):" "$file" || getsubids "$user" >/dev/null 2>&1 ||
            fail "$user has no range in $file: ask an administrator for \`$fix\`"
    done
    command -v newuidmap >/dev/null ||
        fail "newuidmap is missing: install the package uidmap (shadow-utils)"
    if [ ! -r /dev/fuse ] || [ ! -w /dev/fuse ]; then
        apptainer buildcfg | grep -q '^APPTAINER_SUID_INSTALL=1' ||
            fail "$user cannot use /dev/fuse: as root, \`modprobe fuse; chmod 666 /dev/fuse\`"
    fi
fi
[ "$mode" = registry ] || command -v debootstrap >/dev/null ||
    fail "debootstrap is missing, which --offline needs: install its package"
[ -n "$rust" ] || rust=$(rustc --print sysroot) ||
    fail "no Rust here: install it with rustup, or name a toolchain's folder with --rust"
for program in cargo rustc; do
    [ -x "$rust/bin/$program" ] || fail "$rust is no toolchain: it has no bin/$program"
done
[ -e "$root/.deps/torch/lib/libtorch_cpu.so" ] || fail "no libtorch: run containers/setup.sh first"
if [ "$variant" = cuda ]; then
    [ -e "$root/.deps/torch/lib/libtorch_cuda.so" ] ||
        fail "no libtorch for CUDA: run \`containers/setup.sh --cuda\` first"
else
    [ ! -e "$root/.deps/torch/lib/libtorch_cuda.so" ] ||
        fail "this libtorch is CUDA's: build with --cuda, or run containers/setup.sh without it"
fi
mkdir -p -- "$(dirname -- "$out")"
[ -w "$(dirname -- "$out")" ] ||
    fail "$(dirname -- "$out") cannot be written to; name another output"
tmp=${APPTAINER_TMPDIR:-${TMPDIR:-/tmp}}
if [ "$mode" = offline ] && [[ $tmp = *[[:space:]]* ]]; then
    fail "debootstrap cannot work in a folder with blanks in its name ($tmp): set APPTAINER_TMPDIR"
fi
free=$(($(df --output=avail -k -- "$tmp" | tail -n 1) / 1000000))
[ "$free" -ge "$gigabytes" ] ||
    fail "$tmp has $free GB free and this takes $gigabytes: set APPTAINER_TMPDIR to another folder"

# Everything is removed in any case. Apptainer runs in its own process group, so that all of it can
# be ended first.
stage=$(mktemp -d -- "$tmp/atlas-build.XXXXXX")
partial=$(dirname -- "$out")/.$(basename -- "$out").$$
group=''
clean() {
    trap '' INT TERM HUP
    if [ -n "$group" ]; then
        kill -TERM -- "-$group" 2>/dev/null || true
        wait "$group" 2>/dev/null || true
        kill -KILL -- "-$group" 2>/dev/null || true
    fi
    rm -f -- "$partial"
    # Files of packages belong to users of the range; only root of the same range may remove them.
    rm -rf -- "$stage" 2>/dev/null || unshare --map-root-user --map-auto rm -rf -- "$stage" ||
        say "$stage could not be removed"
}
trap clean EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# image DEFINITION OUTPUT OPTION...
image() {
    local definition=$1 output=$2
    shift 2
    APPTAINER_TMPDIR=$stage/work APPTAINER_CACHEDIR=$stage/cache \
        setsid apptainer build "${fakeroot[@]}" "$@" "$output" "$definition" >&2 &
    group=$!
    wait "$group" || fail "apptainer could not build the image (see above)"
    group=''
}
mkdir "$stage/work" "$stage/cache" "$stage/source"

say "1/4 source of $commit"
git -C "$root" archive HEAD | tar -x -C "$stage/source"

say "2/4 crates, toolchain, libtorch"
PATH=$rust/bin:$PATH cargo vendor --locked --quiet --manifest-path "$stage/source/Cargo.toml" \
    "$stage/vendor" >/dev/null || fail "cargo could not fetch the crates (see above)"
mkdir "$stage/rust"
ln -s -- "$rust/bin" "$rust/lib" "$stage/rust/" # without half a gigabyte of documentation
ln -s -- "$(realpath -- "$root/.deps")" "$stage/deps"

if [ "$mode" = offline ]; then
    say "3/4 Debian 12 from apt's mirror"
    # shellcheck disable=SC2016 # apt fills these in
    archives=$(apt-get indextargets --format '$(LABEL) $(CREATED_BY) $(REPO_URI)') ||
        fail "--offline needs a machine with apt"
    mirror=$(sed -n 's/^Debian Packages //p' <<<"$archives" | head -n 1)
    security=$(sed -n 's/^Debian-Security Packages //p' <<<"$archives" | head -n 1)
    [ -n "$mirror" ] || fail "apt on this machine knows no mirror of Debian: use --from-registry"
    {
        printf 'deb %s bookworm main\ndeb %s bookworm-updates main\n' "$mirror" "$mirror"
        [ -z "$security" ] || printf 'deb %s bookworm-security main\n' "$security"
    } >"$stage/sources.list"
    cat >"$stage/base.def" <<END
Bootstrap: debootstrap
OSVersion: bookworm
MirrorURL: $mirror
%files
    "$stage/sources.list" /etc/apt/sources.list
END
    image "$stage/base.def" "$stage/base" --sandbox
    source=(--build-arg bootstrap=localimage --build-arg "base=$stage/base")
else
    say "3/4 Debian 12 from a registry"
    source=(--build-arg bootstrap=docker --build-arg "base=${base:-debian:12}")
fi

say "4/4 compiling and packing (about ten minutes on two cores)"
image "$stage/source/containers/atlas.def" "$partial" "${source[@]}" --build-arg "stage=$stage" \
    --build-arg "commit=$commit" --build-arg "version=$version" --build-arg "variant=$variant"
mv -- "$partial" "$out"
say "$out ($(du -h -- "$out" | cut -f1)) is ready"
