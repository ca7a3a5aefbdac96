#!/usr/bin/env bash
# Core time of `atlas preprocess` per sample and per pixel read, on real images, at 512, 768 and
# 1024 pixels a side, with one thread. The samples of each source are taken many times over (links
# with other ids). One row per run to OUT, medians at the end.
#
#   benches/preprocess.sh OUT.csv KAGGLE EXTERNAL [FOLDER for links and shards] [RUNS, default 7]
#
# KAGGLE holds train/ and train.csv, EXTERNAL images/ and a CSV, as data.kaggle and data.external
# do. CPU time (user and system) is counted, less that of the start, so that other work on the
# machine matters little.
set -euo pipefail
out=${1:?usage: benches/preprocess.sh OUT.csv KAGGLE EXTERNAL [FOLDER] [RUNS]}
kaggle=${2:?the competition folder}
external=${3:?the external folder}
folder=${4:-/tmp/atlas-preprocess}
runs=${5:-7}
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
[ ! -e "$folder" ] || { echo "preprocess.sh: $folder is there already" >&2; exit 2; }
trap 'rm -rf "$folder"' EXIT
python3 - "$root/target/release/atlas" "$kaggle" "$external" "$folder" "$runs" "$out" <<'PYTHON'
import collections, csv, glob, os, shutil, statistics, subprocess, sys

atlas, kaggle, external, folder, runs, out = sys.argv[1:]
sources = {
    "kaggle": (f"{kaggle}/train", f"{kaggle}/train.csv", "train", 256),
    "external": (f"{external}/images", glob.glob(f"{external}/*.csv")[0], "images", 48),
}


def links(name):
    """A data folder with `most` samples, made of the complete ones of a source."""
    images, table, part, most = sources[name]
    files = collections.defaultdict(dict)
    for file in sorted(os.listdir(images)):
        sample, _, rest = file.rpartition("_")
        files[sample][rest.split(".")[0]] = file
    labels = {row["Id"]: row["Target"] for row in csv.DictReader(open(table))}
    whole = [s for s in files if len(files[s]) == 4 and s in labels]
    os.makedirs(f"{folder}/{name}/{part}")
    rows = []
    for i in range(most):
        sample = whole[i % len(whole)]
        for channel, file in files[sample].items():
            link = f"{i:04}-{sample.replace('_', '-')}_{channel}.{file.split('.', 1)[1]}"
            target = os.path.abspath(f"{images}/{file}")
            os.symlink(target, f"{folder}/{name}/{part}/{link}")
        rows.append(f"{i:04}-{sample.replace('_', '-')},{labels[sample]}\n")
    open(f"{folder}/{name}/train.csv", "w").writelines(["Id,Target\n", *rows])
    return most, len(whole)


def cpu(words, keys, code=0):
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    child = subprocess.Popen([atlas, *words, *keys], stdout=null, stderr=pipe)
    said = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    assert os.waitstatus_to_exitcode(status) == code, said.decode()
    return used.ru_utime + used.ru_stime


made = {name: links(name) for name in sources}
side = {"kaggle": 512, "external": 2048}
rows = []
with open(out, "w") as f:
    print("source,pixels_read,size,run,samples,cpu_ms_per_sample,ns_per_pixel_read", file=f)
    for run in range(1, int(runs) + 1):
        for name in sources:
            for size in (512, 768, 1024):
                keys = [f"--set=data.{name}={folder}/{name}", f"--set=paths.work={folder}/work"]
                keys += [f"--set=preprocess.size={size}", "--set=threads=1"]
                shutil.rmtree(f"{folder}/work", ignore_errors=True)
                cpu(["plan"], keys)
                # there is no such task
                start = cpu(["preprocess", "--task", "1", "--tasks", "1"], keys, 2)
                samples = made[name][0]
                each = (cpu(["preprocess"], keys) - start) / samples
                per_pixel = each / 4 / side[name] ** 2
                times = f"{1e3 * each:.2f}", f"{1e9 * per_pixel:.3f}"
                row = [name, side[name], size, run, samples, *times]
                print(*row, sep=",", file=f, flush=True)
                rows.append(row)
for name in sources:
    for size in (512, 768, 1024):
        mine = [row for row in rows if (row[0], row[2]) == (name, size)]
        median = lambda column: statistics.median(float(r[column]) for r in mine)
        print(f"{name} ({made[name][1]} samples, {side[name]} px) at {size}: "
              f"median {median(5):.1f} ms per sample, "
              f"{median(6):.2f} ns per pixel read, {len(mine)} runs")
PYTHON
