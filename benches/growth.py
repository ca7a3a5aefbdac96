#!/usr/bin/env python3
"""How the jobs grow with the data: benches/growth.py OUT_FOLDER [FOLDER for data and runs]
[--samples N] [--hashes N] [--runs N]

Time, CPU time and peak memory of `preprocess`, `dedup`, `split`, `predict` and `submit` at n, 4n
and 16n synthetic training samples of 64 pixels (and half as many test samples), and of
`dedup --hashes` at three sizes of a bare table with radius 4 and 12. Medians of three runs go to
OUT_FOLDER/growth.csv, an image to OUT_FOLDER/growth.svg; the exponents between the last two sizes
are printed: 1 is linear. Starting the program is in every figure (some 0.3 s and 120 MiB), so that
small sizes seem to grow less.

Needs Matplotlib. The folder for data must not be there yet; it is removed at the end."""

import argparse
import csv
import hashlib
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ATLAS = Path(__file__).resolve().parent.parent / "target/release/atlas"
MEASURES = {"wall_s": "s", "cpu_s": "s of CPU time", "peak_mib": "MiB"}
# A small network and short training: what is measured here is what comes before and after it.
KEYS = """preprocess.size=64 preprocess.shard_samples=512 split.folds=2
model.arch=se_resnext_tiny augment.resize=32 augment.crop=32
    train.epochs=1 train.batch=32 train.max_samples=64 train.precision=f32 train.layout=nhwc
    predict.tta=none""".split()


def atlas(*words):
    """Runs the program to its end; gives wall seconds, CPU seconds and peak MiB."""
    since = time.monotonic()
    child = subprocess.Popen(
        [ATLAS, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "RUST_LOG": "error"},
    )
    said = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.monotonic() - since
    if (code := os.waitstatus_to_exitcode(status)) != 0:
        sys.exit(f"growth.py: {' '.join(map(str, words))} ended with {code}:\n{said.decode()}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def files(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def medians(folder, runs, *words):
    """The median of each measure. Between the runs, all files that the job has made go, so that it
    makes them again."""
    rows = []
    for run in range(runs):
        before = files(folder)
        rows.append(atlas(*words))
        if run < runs - 1:
            for path in files(folder) - before:
                path.unlink()
    return [statistics.median(column) for column in zip(*rows)]


def pipeline(folder, samples, runs):
    """Yields (job, samples, medians) of the jobs that see all samples."""
    atlas(
        "synth",
        "--samples",
        str(samples),
        "--test",
        str(samples // 2),
        "--size",
        "64",
        "--out",
        folder / "data",
    )
    folders = [
        f"data.kaggle={folder}/data",
        f"paths.work={folder}/work",
        f"paths.results={folder}/results",
    ]
    keys = [f"--set={key}" for key in folders + KEYS]
    atlas("plan", *keys)
    for job in ("preprocess", "dedup", "split"):
        yield job, samples, medians(folder, runs, job, *keys)
    for fold in "01":
        atlas("train", "--run", "r", "--fold", fold, *keys)
    for job in ("predict", "submit"):
        yield job, samples, medians(folder, runs, job, "--run", "r", *keys)


def hashes(i):
    """Four random 64-bit numbers. A function of `i`: nothing is held, because a child's peak
    memory counts from its parent's."""
    digest = hashlib.blake2b(i.to_bytes(8, "little"), digest_size=32).digest()
    return [int.from_bytes(digest[k : k + 8], "little") for k in (0, 8, 16, 24)]


def write_table(path, rows, radius):
    """Random hashes; every twentieth row is a near copy of another one, with up to `radius` bits
    changed per channel."""
    draw = random.Random(rows)
    with open(path, "w") as file:
        file.write("id,red,green,blue,yellow\n")
        for i in range(rows):
            row = hashes(i)
            if i % 20 == 0:
                row = hashes(draw.randrange(rows))
                for _ in range(draw.randrange(radius + 1)):
                    row = [value ^ 1 << draw.randrange(64) for value in row]
            file.write(f"s{i}," + ",".join(f"{value:x}" for value in row) + "\n")


def bare_table(folder, rows, radius, runs):
    folder.mkdir(parents=True)
    write_table(folder / "hashes.csv", rows, radius)
    words = [
        "--hashes",
        folder / "hashes.csv",
        "--out",
        folder / "groups.csv",
        f"--set=dedup.radius={radius}",
    ]
    return f"dedup --hashes, radius {radius}", rows, medians(folder, runs, "dedup", *words)


def measured(options):
    """Yields (job, samples, medians), each job from small to large."""
    for times in (1, 4, 16):
        yield from pipeline(options.data / f"{times}", times * options.samples, options.runs)
    for radius in (4, 12):
        for times in (1, 4, 16):
            yield bare_table(
                options.data / f"{radius}-{times}", times * options.hashes, radius, options.runs
            )


def grouped(points):
    """{job: [(samples, medians)]}, each by size; tells how it goes."""
    jobs = {}
    for job, samples, values in points:
        print(
            f"{job}, {samples:,} samples: "
            + ", ".join(f"{v:.2f} {unit}" for v, unit in zip(values, MEASURES.values())),
            flush=True,
        )
        jobs.setdefault(job, []).append((samples, values))
    return jobs


def exponents(before, after):
    """By which power of the number of samples each measure grows from one size to the next."""
    (n, old), (m, new) = before, after
    return [math.log(b / a) / math.log(m / n) for a, b in zip(old, new)]


def write_csv(path, jobs):
    with open(path, "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["job", "samples", *MEASURES, *(f"{name}_exponent" for name in MEASURES)])
        for job, points in jobs.items():
            for k, (samples, values) in enumerate(points):
                powers = exponents(points[k - 1], points[k]) if k else []
                out.writerow(
                    [
                        job,
                        samples,
                        *(f"{v:.2f}" for v in values),
                        *(f"{p:.2f}" for p in powers),
                        *([""] * 3)[len(powers) :],
                    ]
                )


def table(jobs):
    print(
        f"{'job':28}{'samples':>10}{'wall s':>9}{'CPU s':>9}{'MiB':>8}   "
        "exponents of wall, CPU, memory since a quarter of it"
    )
    for job, points in jobs.items():
        samples, values = points[-1]
        wall, cpu, peak = values
        print(
            f"{job:28}{samples:10}{wall:9.2f}{cpu:9.2f}{peak:8.0f}   "
            + ", ".join(f"{p:.2f}" for p in exponents(*points[-2:]))
        )


def draw(path, jobs):
    import matplotlib  # only now: see hashes()

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )
    from matplotlib import pyplot, ticker

    # Told apart by colour-blind eyes (Okabe & Ito), and by marks and dashes where there is no
    # colour.
    looks = list(
        zip(
            ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9"],
            "osD^vPX",
            ["-", "--", "-.", ":"] * 2,
        )
    )
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    for axis, measure, title in zip(axes, (0, 2), ("Time (s)", "Peak memory (MiB)")):
        for (job, points), (colour, mark, dash) in zip(jobs.items(), looks):
            x, y = [n for n, _ in points], [values[measure] for _, values in points]
            axis.plot(
                x,
                y,
                color=colour,
                marker=mark,
                linestyle=dash,
                markersize=5,
                linewidth=1.4,
                label=job,
            )
        axis.set(
            xscale="log",
            yscale="log",
            xlabel="Samples",
            title=title,
            ylim=decades([v[measure] for p in jobs.values() for _, v in p]),
        )
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(ticker.LogFormatter())
        linear(axis)
        axis.grid(which="major", color="#dddddd", linewidth=0.6)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(path)


def decades(values):
    """The powers of ten around them."""
    return 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))


def linear(axis):
    """A line of slope 1 through the middle, for the eye."""
    x, y = axis.get_xlim(), axis.get_ylim()
    slope = math.sqrt(y[0] * y[1] / (x[0] * x[1]))
    axis.plot(
        x,
        [slope * v for v in x],
        color="#999999",
        linewidth=3,
        alpha=0.5,
        label="slope 1: linear",
        zorder=0,
    )
    axis.set(xlim=x, ylim=y)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path, nargs="?", default=Path("/tmp/atlas-growth"))
    parser.add_argument(
        "--samples", type=int, default=500, help="training samples of the smallest set (500)"
    )
    parser.add_argument(
        "--hashes", type=int, default=62_500, help="rows of the smallest bare table (62500)"
    )
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if options.data.exists():
        sys.exit(f"growth.py: {options.data} is there already")
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        jobs = grouped(measured(options))
    finally:
        shutil.rmtree(options.data, ignore_errors=True)
    write_csv(options.out / "growth.csv", jobs)
    table(jobs)
    draw(options.out / "growth.svg", jobs)


if __name__ == "__main__":
    main()
