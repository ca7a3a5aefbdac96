#!/usr/bin/env bash
# What `atlas plan` takes for a large data set: a tree of N samples (four empty files each, hard
# links), listed with and without the names in the system's cache; then what it takes to read the
# manifest, as every later job does. One row per run to OUT.
#
#   benches/plan.sh OUT.csv [FOLDER for the tree (/tmp/atlas-plan)] [N... (100000 1000000)]
#
# Needs 350 bytes of disk per sample while it runs and leaves nothing behind. The runs without the
# cache need root.
set -euo pipefail
out=${1:?usage: benches/plan.sh OUT.csv [FOLDER] [N...]}
folder=${2:-/tmp/atlas-plan}
shift $(($# < 2 ? $# : 2))
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
[ ! -e "$folder" ] || { echo "plan.sh: $folder is there already" >&2; exit 2; }
trap 'rm -rf "$folder"' EXIT

echo "samples,run,seconds,cpu_seconds,peak_mib" >"$out"
for n in "${@:-100000 1000000}"; do
    for samples in $n; do
        python3 - "$root/target/release/atlas" "$folder" "$samples" <<'PYTHON' | tee -a "$out"
import os, random, shutil, subprocess, sys, time

atlas, folder, samples = sys.argv[1], sys.argv[2], int(sys.argv[3])
train = f"{folder}/data/train"
os.makedirs(train)
# Ids as long as the real ones, in no order.
numbers = random.Random(1).sample(range(1 << 32), samples)
ids = [f"{i:08x}-bb9b-11e8-b2b9-ac1f6b6435d0" for i in numbers]
with open(f"{folder}/data/train.csv", "w") as table:
    table.write("Id,Target\n")
    for i, name in enumerate(ids):
        if i % 10_000 == 0:  # a file takes at most 65,000 links
            empty = f"{folder}/empty-{i}"
            open(empty, "w").close()
        for channel in ("red", "green", "blue", "yellow"):
            os.link(empty, f"{train}/{name}_{channel}.png")
        table.write(f"{name},{i % 28} {i // 28 % 28}\n")
os.sync()
keys = ["--set", f"data.kaggle={folder}/data", "--set", f"paths.work={folder}/work"]


def run(name, words, code=0):
    since = time.monotonic()
    quiet = {**os.environ, "RUST_LOG": "error"}
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    child = subprocess.Popen([atlas, *words, *keys], stdout=null, stderr=pipe, env=quiet)
    said = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.monotonic() - since
    assert os.waitstatus_to_exitcode(status) == code, said.decode()
    cpu, memory = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(f"{samples},{name},{seconds:.2f},{cpu:.2f},{memory:.0f}", flush=True)


for _ in range(3):
    if os.geteuid() == 0:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        run("plan cold", ["plan"])
    run("plan", ["plan"])
    # A task that there is not: ends with a message once the manifest is read.
    run("read", ["preprocess", "--task", "1", "--tasks", "1"], 2)
shutil.rmtree(folder)
PYTHON
    done
done
