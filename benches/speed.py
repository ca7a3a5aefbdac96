#!/usr/bin/env python3
"""atlas against the Python stack, stage by stage, in turn on the same inputs: benches/speed.py
OUT_FOLDER [--rounds 7] [--stage NAME ...]

Every round of a stage runs each contestant once, in alternating order. All seconds go to
OUT_FOLDER/speed.json, the table of medians and ratios to OUT_FOLDER/speed.md; stages that are
measured again replace those of before, the others stay. Run it with the Python of a virtual
environment that has benches/peers/requirements.txt; with two threads or workers everywhere, while
nothing else runs. Shards are written to the memory file system where there is room, so that the
disk is not what is measured: atlas also makes its files durable (fsync), theirs does not."""

import argparse
import collections
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ATLAS, SPEED, PEERS = (
    ROOT / "target/release/atlas",
    ROOT / "target/release/speed",
    ROOT / "benches/peers",
)
REAL = ROOT.parent / "shared/data"
THREADS = 2
CHANNELS = ("red", "green", "blue", "yellow")


class Served:
    """A program that does a round for each line that it is given."""

    def __init__(self, *words):
        self.process = subprocess.Popen(
            list(map(str, words)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.answer("ready")

    def answer(self, *wanted):
        for line in self.process.stdout:
            if not wanted or line.strip() in wanted:
                return line.strip()
        sys.exit(f"{self.process.args} ended:\n{self.process.stderr.read()}")

    def __call__(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.answer())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def timed(*words):
    """The seconds of a whole process, and the last line that it printed."""
    since = time.perf_counter()
    out = subprocess.run(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    seconds = time.perf_counter() - since
    if out.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))} ended with {out.returncode}:\n{out.stderr}")
    return seconds, (out.stdout.strip().splitlines() or [""])[-1]


def rate(key, amount, *words):
    """Seconds from the rate that a peer prints about itself, its start not counted."""
    return lambda: amount / json.loads(timed(sys.executable, *words)[1])[key]


class Results:
    def __init__(self, folder, rounds, stages, device):
        self.file, self.table, self.rounds, self.stages, self.device = (
            folder / "speed.json",
            folder / "speed.md",
            rounds,
            stages,
            device,
        )
        self.measured = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.on = machine()  # now: what is written below may change what git says

    def wants(self, stage):
        return not self.stages or any(stage.startswith(s) for s in self.stages)

    def compete(self, stage, contestants, best=False, note=""):
        """Rounds of all contestants; `ours` comes first, `floor` is no peer but what cannot be
        undercut."""
        seconds = {name: [] for name in contestants}
        for i in range(self.rounds):
            for name in list(contestants)[:: 1 if i % 2 == 0 else -1]:
                seconds[name].append(round(contestants[name](), 4))
        for contestant in contestants.values():
            if isinstance(contestant, Served):
                contestant.close()
        self.measured[stage] = {"on": self.on, "best": best, "note": note, "seconds": seconds}
        print(self.row(stage), flush=True)
        self.write()

    def row(self, stage):
        best, note, seconds = (self.measured[stage][key] for key in ("best", "note", "seconds"))
        of = lambda name: min(seconds[name]) if best else statistics.median(seconds[name])
        spread = lambda name: (
            f"{of(name):.3f} s ({min(seconds[name]):.3f} to {max(seconds[name]):.3f})"
        )
        peers = [name for name in seconds if name not in ("ours", "floor")]
        others = "; ".join(
            f"{name} {spread(name)}: **{of(name) / of('ours'):.2f}x**" for name in peers
        )
        floor = (
            f"{of('floor') / of('ours'):.2f} of the time is the floor's ({spread('floor')})"
            if "floor" in seconds
            else ""
        )
        return f"| {stage} | {spread('ours')} | {others} | {floor} | {note} |"

    def write(self):
        self.file.write_text(json.dumps(self.measured, indent=1) + "\n")
        on = collections.defaultdict(list)
        for stage, measured in self.measured.items():
            on[measured["on"]].append(stage)
        rounds = {
            len(s) for measured in self.measured.values() for s in measured["seconds"].values()
        }
        lines = [
            where if len(on) == 1 else f"{where}: {'; '.join(stages)}"
            for where, stages in on.items()
        ]
        lines = [line for where in lines for line in (where, "")]
        lines += [
            f"{' or '.join(map(str, sorted(rounds)))} rounds; medians, or the best round of each "
            "where it says so, and in brackets the range.",
            "",
        ]
        lines += [
            "| stage | atlas | peers, and how many times as long they take | floor | |",
            "|---|---|---|---|---|",
        ]
        self.table.write_text(
            "\n".join(lines + [self.row(stage) for stage in self.measured]) + "\n"
        )


def machine():
    model = next(
        (l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")),
        platform.processor(),
    )
    commit = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    machine = f"{model}, {os.cpu_count()} CPUs, {platform.release()}"
    return f"{machine}, {time.strftime('%Y-%m-%d')}, commit {commit}"


def samples(folder, extension):
    """Ids of the samples in a folder that have all four channels."""
    names = set(os.listdir(folder))
    ids = sorted({name.rsplit("_", 1)[0] for name in names if name.endswith("." + extension)})
    return [i for i in ids if all(f"{i}_{c}.{extension}" in names for c in CHANNELS)]


def repeated(source, extension, repeat, target, part):
    """A data folder with links to every sample, `repeat` times under other ids."""
    (target / part).mkdir(parents=True)
    rows = ["Id,Target\n"]
    for k in range(repeat):
        for i in samples(source, extension):
            name = f"{k:03}-{i.replace('_', '-')}"
            rows.append(f"{name},0\n")
            for c in CHANNELS:
                os.symlink(
                    os.path.abspath(f"{source}/{i}_{c}.{extension}"),
                    target / part / f"{name}_{c}.{extension}",
                )
    (target / "train.csv").write_text("".join(rows))
    return len(rows) - 1


def preprocess(results, scratch, fast):
    made = scratch / "made"
    sources = {
        "png": (REAL / "kaggle/train", "kaggle", "train", 512, 96),
        "jpg": (REAL / "hpav18/images", "external", "images", 768, 128),
    }
    for extension, (source, key, part, size, repeat) in sources.items():
        stage, note = f"preprocess {extension} to {size}", "real images"
        if not results.wants(stage):
            continue
        if not source.exists():
            side = 512 if extension == "png" else 2048
            target = made / extension
            counts = ("32", "1") if extension == "png" else ("1", "6")
            timed(
                ATLAS,
                "synth",
                "--out",
                target,
                "--samples",
                counts[0],
                "--external",
                counts[1],
                "--test",
                "0",
                "--size",
                str(side),
            )
            source, note = (
                target / ("train" if extension == "png" else "external/images"),
                "synthetic images",
            )
        data, work, theirs = fast / "data", fast / "work", fast / "theirs"
        n = repeated(source, extension, repeat, data, part)
        keys = [
            f"--set=data.{key}={data}",
            f"--set=paths.work={work}",
            f"--set=preprocess.size={size}",
            f"--set=threads={THREADS}",
        ]

        def ours():
            shutil.rmtree(work, ignore_errors=True)
            timed(ATLAS, "plan", *keys)
            return json.loads(timed(ATLAS, "preprocess", "--json", *keys)[1])["seconds"]

        peer = rate(
            "samples_per_s",
            n,
            PEERS / "preprocess.py",
            "--images",
            source,
            "--workers",
            THREADS,
            "--repeat",
            repeat,
            "--ext",
            extension,
            "--size",
            size,
            "--out",
            theirs,
        )
        floor = Served(SPEED, "decode", source, extension, repeat)
        results.compete(
            stage,
            {"ours": ours, "cv2, imagehash, h5py": peer, "floor": floor},
            note=f"{note}, {n} samples, without the start of either; floor: decoding alone",
        )
        for folder in (data, work, theirs):
            shutil.rmtree(folder)


def loader(results, scratch, fast):
    shard, n = scratch / "loader.h5", 400
    if results.wants("loader, warm"):
        ours = Served(SPEED, "loader", shard, n, 768, 512)
        ours()
        peer = rate(
            "samples_per_s",
            n,
            PEERS / "loader.py",
            "--workers",
            THREADS,
            "--n",
            n,
            "--path",
            scratch / "peer.h5",
        )
        results.compete(
            "loader, warm, 768 to 512",
            {"ours": ours, "DataLoader, albumentations, h5py": peer},
            note=f"{n} samples",
        )
    if results.wants("loader, cold"):
        ours, floor = (
            Served(SPEED, "cold", shard, n, 768, 512),
            Served(SPEED, "pread", shard, n, 768),
        )
        results.compete(
            "loader, cold cache",
            {"ours": ours, "floor": floor},
            note="floor: pread of the same blocks, page cache emptied before",
        )


def dedup(results, scratch, fast):
    for radius in (4, 12):
        stage = f"dedup, 105,678 samples, radius {radius}"
        if results.wants(stage):
            table = scratch / f"hashes-{radius}.csv"
            timed(sys.executable, PEERS / "dedup.py", "--radius", radius, "--csv", table)
            ours = lambda: timed(
                ATLAS,
                "dedup",
                "--hashes",
                table,
                "--out",
                scratch / "groups.csv",
                f"--set=dedup.radius={radius}",
                f"--set=threads={THREADS}",
            )[0]
            peer = lambda: json.loads(
                timed(sys.executable, PEERS / "dedup.py", "--radius", radius)[1]
            )["seconds"]
            results.compete(
                stage,
                {"ours": ours, "faiss": peer},
                note="ours: the whole process with its files; theirs: the search alone",
            )


def train(results, scratch, fast):
    sizes = {
        "cpu": ((128, 16, ("bf16", "f32")), (256, 16, ("bf16", "f32"))),
        "cuda": ((224, 256, ("bf16",)), (512, 64, ("bf16",))),
    }
    for size, batch, dtypes in sizes[results.device]:
        for dtype in dtypes:
            stage = f"training step, {size} px, batch {batch}, {dtype}"
            if results.wants(stage):
                words = (
                    "--size",
                    size,
                    "--batch",
                    batch,
                    "--dtype",
                    dtype,
                    "--device",
                    results.device,
                )
                peer = lambda *more: Served(sys.executable, PEERS / "train_step.py", *words, *more)
                contestants = {
                    "ours": Served(SPEED, "train", size, batch, dtype, "nhwc"),
                    "eager nhwc": peer(),
                }
                if results.device == "cpu":
                    contestants["eager nchw"] = peer("--layout", "nchw")
                results.compete(
                    stage,
                    contestants | {"compiled": peer("--compile")},
                    best=True,
                    note="best step of each",
                )


def predict(results, scratch, fast):
    size, images, dtypes = {"cpu": (256, 8, ("bf16", "f32")), "cuda": (512, 64, ("bf16",))}[
        results.device
    ]
    for dtype in dtypes:
        stage = f"prediction, five crops of {size} px, {dtype}"
        if results.wants(stage):
            words = (
                "--size",
                size,
                "--images",
                images,
                "--dtype",
                dtype,
                "--device",
                results.device,
            )
            peer = lambda *more: Served(sys.executable, PEERS / "predict.py", *words, *more)
            contestants = {
                "ours": Served(SPEED, "predict", size, images, dtype, 0),
                "eager": peer(),
                "compiled": peer("--compile"),
            }
            if results.device == "cpu":
                contestants["ONNX Runtime f32"] = peer("--onnx")
            results.compete(stage, contestants, best=True, note=f"best of each; {images} images")


def start(results, scratch, fast):
    if results.wants("start-up"):
        contestants = {
            "ours": lambda: timed(ATLAS, "--help")[0],
            "import torch": lambda: timed(sys.executable, "-c", "import torch")[0],
        }
        results.compete("start-up", contestants, note="`atlas --help`")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out", type=Path)
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument(
        "--stage",
        action="append",
        default=[],
        help="only stages that begin so; may be given several times",
    )
    p.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        default="cpu",
        help="of training and prediction; ours takes a GPU where there is one",
    )
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    results = Results(a.out, a.rounds, a.stage, a.device)
    shm = (
        "/dev/shm"
        if os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 4 << 30
        else None
    )
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory(dir=shm) as fast:
        for stage in (start, preprocess, loader, dedup, predict, train):
            stage(results, Path(scratch), Path(fast))


if __name__ == "__main__":
    main()
