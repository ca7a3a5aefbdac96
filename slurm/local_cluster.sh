#!/usr/bin/env bash
# A real Slurm (munged, slurmctld, N slurmd) on one machine, for tests. Debian 12, root, no systemd.
#   eval "$(slurm/local_cluster.sh up [N] [FOLDER])"   starts N nodes (2) and sets SLURM_CONF
#   slurm/local_cluster.sh down [FOLDER]               cancels all jobs, ends all processes
#   slurm/local_cluster.sh status [FOLDER]
# FOLDER (/tmp/atlas-slurm) holds state and logs. Every node claims at least 4 CPUs and 32 GB, so
# that 4 tasks run on two cores. Only one cluster at a time: the ports are fixed.
set -euo pipefail
export LC_ALL=C PATH="/usr/sbin:/sbin:$PATH"

controller_port=16817 # the nodes take the ports after it

say() { printf '%s\n' "local_cluster: $*" >&2; }

# die LOG MESSAGE: shows the end of a log
die() {
    say "$2"
    if [ -f "$1" ]; then
        say "the end of $1:"
        tail -n 30 -- "$1" >&2
    fi
    exit 1
}

usage() {
    sed -n '3,5s/^# *//p' "$0" >&2
    exit 2
}

# wait_until SECONDS COMMAND...: tries it twice a second
wait_until() {
    local ends=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$ends" ] || return 1
        sleep 0.5
    done
}

# daemons NAME: the process ids of our daemons of that name; ours hold a file of the folder open
daemons() {
    local proc fd name
    for proc in /proc/[0-9]*; do
        { read -r name <"$proc/comm"; } 2>/dev/null || continue
        [ "$name" = "$1" ] || continue
        for fd in "$proc"/fd/*; do
            if [[ "$(readlink "$fd" 2>/dev/null)" == "$folder/"* ]]; then
                printf '%s\n' "${proc#/proc/}"
                break
            fi
        done
    done
}

# job_processes: what jobs of this cluster left behind
job_processes() {
    local proc vars
    for proc in /proc/[0-9]*; do
        vars="$(tr '\0' '\n' 2>/dev/null <"$proc/environ")" || continue
        if grep -qxF "SLURM_CONF=$conf" <<<"$vars" && grep -q '^SLURM_JOB_ID=' <<<"$vars"; then
            printf '%s\n' "${proc#/proc/}"
        fi
    done
}

none_of() { [ -z "$(daemons "$1")" ]; }
no_jobs() { [ -z "$(timeout 10 squeue --noheader)" ]; }

# all_running: one munged, one slurmctld and a slurmd per node
all_running() {
    local running
    ! none_of munged && ! none_of slurmctld || return 1
    running="$(daemons slurmd | wc -l)"
    [ "$running" -eq "$nodes" ]
}

nodes_idle() {
    local states
    states="$(timeout 10 sinfo --noheader --Node --format=%T)"
    [ "$(grep -cxE 'idle|mixed|allocated' <<<"$states")" -eq "$nodes" ]
}

install_packages() {
    local log=/tmp/atlas-slurm-install.log command
    for command in munged slurmctld slurmd srun; do
        command -v "$command" >/dev/null && continue
        say "installing slurm-wlm and munge"
        export DEBIAN_FRONTEND=noninteractive
        {
            timeout 300 apt-get update -qq &&
                timeout 600 apt-get install -y -qq --no-install-recommends slurm-wlm munge
        } >"$log" 2>&1 || die "$log" "apt-get could not install slurm-wlm and munge"
        return
    done
}

write_conf() {
    local host cpus i
    host="$(hostname -s 2>/dev/null || hostname)"
    cpus="$(nproc)"
    [ "$cpus" -ge 4 ] || cpus=4
    cat <<END
ClusterName=atlas
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller_port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# a requeued job waits as long as a credential lives: 120 s by default
AuthInfo="socket=$folder/munge/socket,cred_expire=20"
CredType=cred/munge
StateSaveLocation="$folder/state"
SlurmdSpoolDir="$folder/spool-%n"
# PMIx makes a folder per step in here, and two nodes of one machine would make the same one
TmpFS="$folder/tmp-%n"
TaskProlog="$folder/task_prolog.sh"
SlurmctldPidFile="$folder/slurmctld.pid"
SlurmdPidFile="$folder/%n.pid"
SlurmctldLogFile="$folder/slurmctld.log"
SlurmdLogFile="$folder/%n.log"
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
# nothing else here ends a task that takes more memory than it requested
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=5,bf_interval=5
MpiDefault=pmix
SlurmdTimeout=20
JobRequeue=1
ReturnToService=2
KillWait=30
END
    for ((i = 1; i <= nodes; i++)); do
        printf 'NodeName=node%d NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=%d %s\n' \
            "$i" "$host" "$((controller_port + i))" "$cpus" "RealMemory=32000 State=UNKNOWN"
    done
    printf 'PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n'
}

up() {
    local i
    [ "$(id -u)" -eq 0 ] || die "" "up needs root"
    install_packages
    mkdir -p -- "$folder/munge" "$folder/state"
    chmod 755 -- "$folder" "$folder/munge"
    if [ "$(write_conf)" != "$(cat -- "$conf" 2>/dev/null)" ] || ! all_running; then
        down
        trap down EXIT # unless all of it starts
        write_conf >"$conf"
        printf 'CgroupAutomount=no\n' >"$folder/cgroup.conf" # nothing here uses cgroups
        # Open MPI names its shared memory after the hostname and the rank within the node, which
        # two of these nodes have in common; between nodes it omits the loopback interface by
        # default.
        cat >"$folder/task_prolog.sh" <<'END'
#!/bin/sh
printf 'export OMPI_MCA_btl_vader_backing_directory=%s\n' "${0%/*}/tmp-$SLURMD_NODENAME"
echo export OMPI_MCA_btl_tcp_if_include=lo
END
        chmod 755 -- "$folder/task_prolog.sh"
        for i in munge/munged slurmctld; do rm -f -- "$folder/$i.log"; done
        for ((i = 1; i <= nodes; i++)); do
            rm -rf -- "$folder/tmp-node$i"
            mkdir -p -- "$folder/spool-node$i" "$folder/tmp-node$i"
            chmod 1777 -- "$folder/tmp-node$i"
            rm -f -- "$folder/node$i.log"
        done

        if [ ! -s "$folder/munge/key" ]; then
            (umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
        fi
        munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
            --pid-file="$folder/munge/pid" --seed-file="$folder/munge/seed" \
            --log-file="$folder/munge/munged.log" >"$folder/munge/start.log" 2>&1 ||
            die "$folder/munge/start.log" "munged did not start"
        wait_until 15 munge --socket="$folder/munge/socket" --no-input ||
            die "$folder/munge/munged.log" "munged does not answer"

        timeout 30 slurmctld -f "$conf" >"$folder/start.log" 2>&1 ||
            die "$folder/start.log" "slurmctld did not start"
        wait_until 30 timeout 5 scontrol ping ||
            die "$folder/slurmctld.log" "slurmctld does not answer"
        for ((i = 1; i <= nodes; i++)); do
            timeout 30 slurmd -f "$conf" -N "node$i" >"$folder/start.log" 2>&1 ||
                die "$folder/start.log" "slurmd of node$i did not start"
        done
        wait_until 15 all_running || die "$folder/node1.log" "a daemon ended right after its start"
    fi
    if ! wait_until 60 nodes_idle; then
        for ((i = 1; i <= nodes; i++)); do tail -n 10 -- "$folder/node$i.log" >&2 || true; done
        die "$folder/slurmctld.log" "the nodes did not become idle"
    fi
    trap - EXIT
    printf 'export SLURM_CONF=%q\n' "$conf"
}

down() {
    local name pids
    if [ -f "$conf" ] && ! none_of slurmctld; then
        timeout 10 squeue --noheader --format=%A |
            xargs -r timeout 10 scancel >/dev/null 2>&1 || true
        mapfile -t pids < <(job_processes) # some ignore SIGTERM and would live for KillWait
        end KILL "${pids[@]}" || true
        wait_until 20 no_jobs || say "some jobs did not end in 20 s"
    fi
    for name in slurmd slurmctld slurmstepd munged; do
        mapfile -t pids < <(daemons "$name")
        end TERM "${pids[@]}" || end KILL "${pids[@]}" ||
            die "$folder/slurmctld.log" "$name does not end"
    done
    mapfile -t pids < <(job_processes)
    end KILL "${pids[@]}" || die "$folder/slurmctld.log" "some processes of jobs do not end"
}

# end SIGNAL PID...: sends it and waits
end() {
    [ "$#" -gt 1 ] || return 0
    kill -s "$@" 2>/dev/null || true
    shift
    wait_until 10 gone "$@"
}

# gone PID...: ended, or only waiting for its parent to ask
gone() {
    local pid
    for pid; do
        ! grep -q '^State:[[:space:]]*[^ZX]' "/proc/$pid/status" 2>/dev/null || return 1
    done
}

status() {
    local name
    for name in munged slurmctld slurmd slurmstepd; do
        printf '%-10s %s\n' "$name" "$(daemons "$name" | xargs)"
    done
    none_of slurmctld && return
    timeout 10 sinfo --Node --long
    timeout 10 squeue
}

action="${1:-}"
[ "$#" -eq 0 ] || shift
nodes=2
if [ "$action" = up ] && [[ "${1:-}" =~ ^[0-9]+$ ]]; then
    [[ "$1" =~ ^[1-9][0-9]?$ ]] || usage
    nodes="$1"
    shift
fi
[ "$#" -le 1 ] || usage
folder="$(realpath -m -- "${1:-/tmp/atlas-slurm}")"
conf="$folder/slurm.conf"
export SLURM_CONF="$conf"

case "$action" in
    up | down | status) "$action" ;;
    *) usage ;;
esac
