#!/usr/bin/env bash
# Installs Apptainer on a machine without one: Debian 12 or its kin, as root. Elsewhere ask the site
# or its package manager.
#
#   containers/apptainer.sh     to $PREFIX (default: /opt/apptainer), with a link in /usr/local/bin
#
# Debian 12 has no package of it, and unstable's needs a newer C library: both are unpacked beside
# each other and linked by patchelf; nothing of the system is replaced. Where an `apptainer` works
# already, this does nothing.
set -euo pipefail
prefix=${PREFIX:-/opt/apptainer}

fail() {
    echo "apptainer: $1" >&2
    exit 1
}

if command -v apptainer >/dev/null && apptainer --version >/dev/null 2>&1; then
    exit 0
fi
[ "$(id -u)" = 0 ] || fail "not installed; run containers/apptainer.sh as root, or ask your site"
if [ "$(uname -m)" != x86_64 ] || ! command -v apt-get >/dev/null; then
    fail "this is for Debian on x86-64; install Apptainer 1.2 or newer with your package manager"
fi

export DEBIAN_FRONTEND=noninteractive
echo "apptainer: installing what it works with" >&2
apt-get -qq update
apt-get -qq install -y --no-install-recommends ca-certificates uidmap squashfs-tools squashfuse \
    fuse-overlayfs fakeroot debootstrap patchelf >/dev/null

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# apt with its own state, so that the machine's package lists do not get the unstable suite.
# shellcheck disable=SC2016 # apt fills these in
archive=$(apt-get indextargets --format '$(LABEL) $(CREATED_BY) $(REPO_URI)' |
    sed -n 's/^Debian Packages //p' | head -n 1)
[ -n "$archive" ] || fail "apt knows no archive of Debian; look at /etc/apt"
mkdir -p "$work"/state/lists/partial "$work"/cache/archives/partial "$work/parts"
touch "$work/state/status"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $archive unstable main" >"$work/sources.list"
cat >"$work/apt.conf" <<END
Dir::State "$work/state";
Dir::State::status "$work/state/status";
Dir::Cache "$work/cache";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "$work/parts";
Dir::Etc::preferences "$work/none";
Dir::Etc::preferencesparts "$work/parts";
Acquire::Languages "none";
APT::Sandbox::User "root"; // apt's own user cannot write here
END
echo "apptainer: fetching it and its C library" >&2
APT_CONFIG=$work/apt.conf apt-get -qq update
packages=(apptainer libc6 libseccomp2 libsqlite3-0)
(cd "$work/cache" && APT_CONFIG=$work/apt.conf apt-get -qq download "${packages[@]}")

for package in "$work"/cache/*.deb; do
    dpkg-deb --extract "$package" "$work/tree"
done
# Apptainer finds its files beside its program: usr/ becomes $prefix, with etc/ and var/ in it.
mv "$work/tree/etc" "$work/tree/var" "$work/tree/usr/"
lib=lib/x86_64-linux-gnu
for program in bin/apptainer "$lib/apptainer/bin/starter"; do
    # An old-style run path, which also applies to the libraries of the libraries.
    patchelf --set-interpreter "$prefix/$lib/ld-linux-x86-64.so.2" \
        --force-rpath --set-rpath "$prefix/$lib" "$work/tree/usr/$program"
done
# A root that lacks some capabilities (in a container) could not pass all of them on.
sed -i 's/^root default capabilities = .*/root default capabilities = no/' \
    "$work/tree/usr/etc/apptainer/apptainer.conf"
[ ! -e "$prefix" ] || [ -e "$prefix/.by-atlas" ] ||
    fail "$prefix holds something else; choose another PREFIX"
rm -rf "$prefix" "$work/tree/usr/share"
touch "$work/tree/usr/.by-atlas"
mkdir -p "$(dirname -- "$prefix")" /usr/local/bin
mv -T "$work/tree/usr" "$prefix"
chmod 755 "$prefix"
ln -s ../etc ../var "$prefix/lib/" # its starter counts the levels otherwise
ln -sfn "$prefix/bin/apptainer" /usr/local/bin/apptainer

# Ordinary users mount images through FUSE; a machine without udev leaves the device to root.
[ -e /dev/fuse ] || mknod /dev/fuse c 10 229 || true
chmod 666 /dev/fuse 2>/dev/null ||
    echo "apptainer: no /dev/fuse here: images cannot be mounted" >&2
apptainer --version >/dev/null || fail "what was installed to $prefix does not start"
echo "apptainer: $(apptainer --version) is ready" >&2
