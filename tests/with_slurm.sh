#!/usr/bin/env bash
# with_slurm.sh NODES COMMAND...: runs the command with a Slurm on this machine, where there is one
# or one can be started (as root on Debian). Elsewhere it runs without SLURM_CONF.
set -euo pipefail
nodes=$1
shift
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [ -n "${SLURM_CONF:-}" ] && scontrol ping >/dev/null 2>&1; then
    exec "$@"
fi
unset SLURM_CONF # it names none that answers
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    folder=$(mktemp -d)
    trap '"$here/slurm/local_cluster.sh" down "$folder" || true; rm -rf -- "$folder"' EXIT
    started=$("$here/slurm/local_cluster.sh" up "$nodes" "$folder") && eval "$started" ||
        echo "with_slurm: no Slurm could be started" >&2
else
    echo "with_slurm: SLURM_CONF names no Slurm, and none can be started (not root on Debian)" >&2
fi
"$@"
