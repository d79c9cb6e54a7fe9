#!/usr/bin/env python3
"""Benchmark of one Pharos process: ingest cost, memory, stored size, and the time of 13 questions.

usage: run.py --bench-dir DIR [--lines N] [--seed N] [--loki-bin FILE] [--victoria-logs-bin FILE] [--corpus-only]

Makes the corpus once (under target/bench), starts a fresh server with fsync on, pushes and flushes, then has
every answer checked after the flush, after merging, after a restart, and while more data arrives. Ends with a
table of what must be reached. The ingest figure is all CPU time from the push to the end of the flush, merging in
the background with it; what merging everything costs is told beside it. Where another database's binary is given,
that runs afterwards on the same corpus, and a table of ratios follows. Exits 1 if an answer was wrong or a record
is missing; slowness is no failure.
"""
import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
import peers
from server import Server

# The questions want 1,000 lines of one app and a planted id in each.
LINES_MIN = 100_000
# What must be reached is said for so many lines.
LINES = 5_000_000

# What is measured, its unit, what must be reached, what is wished for, and whether more is better.
TARGETS = [
    ("ingest", "lines per CPU second", 800_000, 1_200_000, True),
    ("stored after merging", "bytes per line", 13, 10, False),
    ("peak memory while ingesting", "MB", 250, 150, False),
    ("needle, whole id", "ms", 6, 2, False),
    ("needle, part of an id", "ms", 80, 20, False),
    ("needle by regex", "ms", 100, 25, False),
    ("count lines with 'error' per app", "ms", 50, 10, False),
    ("lines per app, no filter", "ms", 5, 1, False),
    ("volume per app over time", "ms", 20, 5, False),
    ("last 1000 of one app", "ms", 9, 4, False),
    ("top 5 source addresses", "ms", 60, 20, False),
    ("scan that no index helps", "GB of lines per CPU second", 1.0, 1.6, True),
]


class Bench:
    """One server, the corpus, and what was seen of them."""

    def __init__(self, folder, out, server):
        self.folder, self.out, self.server = folder, out, server
        self.truth = json.loads((out / "truth.json").read_text())
        self.raw_bytes = self.truth["bytes"]
        self.measured = {}
        self.right = True

    def pusher(self, *options):
        return peers.push(self.folder, f"{self.server.url}/loki/api/v1/push", self.out, *options)

    def records(self):
        return self.server.storage()["tenants"]["default"]["logs"]["records"]

    def ingest(self):
        before = self.server.cpu_seconds()
        done = subprocess.run(self.pusher("--pid", str(self.server.pid)), check=True, capture_output=True, text=True)
        pushed = json.loads(done.stdout.splitlines()[-1])
        self.server.post("/admin/api/v1/flush")
        cpu = self.server.cpu_seconds() - before
        stored = self.server.storage()
        records, memory = stored["records"], self.server.peak_memory_mb()
        print(f"lines                     {pushed['lines']} ({self.raw_bytes / 1e6:.0f} MB raw), {records} stored")
        print(f"pushed in                 {pushed['secs']} s, {pushed['lines_s']} lines/s, {pushed['retries']} retries, {pushed['failed']} failed")
        print(f"server CPU to segment     {cpu:.2f} s, {self.raw_bytes / 1e6 / cpu:.0f} raw MB per CPU second")
        print(f"stored after flush        {stored['bytes'] / records:.2f} bytes/line in {stored['segments']} segments")
        self.right &= pushed["failed"] == 0
        self.measured["ingest"] = records / cpu
        self.measured["peak memory while ingesting"] = memory

    def ask(self, when, runs=5):
        """Has all questions asked; keeps the medians of the latest time."""
        print(f"\nquestions {when}:", flush=True)
        medians, right = peers.ask_logql(self.folder, self.server.url, self.out, runs)
        self.right &= right
        return medians

    def merge(self):
        records, before = self.records(), self.server.cpu_seconds()
        self.server.post("/admin/api/v1/merge")
        cpu, stored = self.server.cpu_seconds() - before, self.server.storage()
        print(f"\nmerged with               {cpu:.2f} s CPU into {stored['segments']} segments")
        self.right &= stored["records"] == records
        self.measured["stored after merging"] = stored["bytes"] / stored["records"]

    def scan(self):
        """Raw bytes looked through per second of the server's CPU time, over all its threads."""
        before = self.server.cpu_seconds()
        for _ in range(peers.SCANS):
            peers.scan_logql(self.server, self.truth["end_ns"])
        self.measured["scan that no index helps"] = peers.SCANS * self.raw_bytes / 1e9 / max(self.server.cpu_seconds() - before, 0.01)

    def ask_while_ingesting(self):
        """Asks while another tenant's copies of the corpus arrive, one after the other until all is asked."""
        asked, pushing, tenants = threading.Event(), [], itertools.count(1)

        def push():
            while not asked.is_set():
                pushing.append(subprocess.Popen(self.pusher("--tenant", f"other-{next(tenants)}"), stdout=subprocess.DEVNULL))
                pushing[-1].wait()

        before = self.received()
        thread = threading.Thread(target=push)
        thread.start()
        # The pusher reads all bodies first.
        deadline = time.monotonic() + 120
        while self.received() == before and time.monotonic() < deadline:
            time.sleep(0.05)
        before = self.received()
        self.ask("while more data arrives", runs=2)
        arrived = self.received() - before
        asked.set()
        pushing[-1].terminate()
        thread.join()
        print(f"{arrived} records of another tenant arrived meanwhile")
        self.right &= arrived > 0

    def received(self):
        text = self.server.get("/metrics")[1].decode()
        return sum(int(float(value)) for value in re.findall(r"^pharos_distributor_records_total\S* (\S+)$", text, re.M))

    def table(self):
        print(f"\n{'':34s} {'measured':>12s} {'must':>10s} {'goal':>10s}")
        for name, unit, must, goal, more_is_better in TARGETS:
            value = self.measured[name]
            reached = [value >= bar if more_is_better else value <= bar for bar in (must, goal)]
            verdict = "goal reached" if reached[1] else "reached" if reached[0] else "missed"
            print(f"{name:34s} {figure(value):>12s} {figure(must):>10s} {figure(goal):>10s}  {unit}, {verdict}")
        if self.truth["lines"] != LINES:
            print(f"what must be reached is said for {LINES} lines; these were {self.truth['lines']}")


def figure(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def beside(bench, binaries):
    """Runs the other databases, one after the other, and prints how they compare."""
    theirs = {}
    for kind, binary in binaries:
        with tempfile.TemporaryDirectory(prefix="peer-bench-", dir="target/bench") as data:
            peer = kind(binary, data)
            theirs[peer.name], right = peers.measure(peer, bench.folder, bench.out)
            bench.right &= right
    units = {name: (unit, more_is_better) for name, unit, _, _, more_is_better in TARGETS}
    names = list(units) + [name for name in bench.measured if name not in units]
    peers.table(figure, [(name, *units.get(name, ("ms", False))) for name in names], bench.measured, theirs)


def corpus(folder, lines, seed):
    out = Path("target/bench") / f"corpus-{lines}-{seed}"
    if not (out / "truth.json").exists():
        print(f"making a corpus of {lines} lines in {out}", flush=True)
        out.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, folder / "loggen.py", folder / "loghub", out, str(lines), "--seed", str(seed)], check=True)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench-dir", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--loki-bin", default="")
    parser.add_argument("--victoria-logs-bin", default="")
    parser.add_argument("--corpus-only", action="store_true", help="make the corpus and end")
    args = parser.parse_args()
    if not (args.bench_dir / "loggen.py").exists():
        sys.exit(f"{args.bench_dir} has no loggen.py: give the benchmark's folder with BENCH_DIR=")
    if args.lines < LINES_MIN:
        sys.exit(f"{args.lines} lines are too few for the questions: give {LINES_MIN} at least with BENCH_LINES=")
    binaries = [(kind, binary) for kind, binary in ((peers.Loki, args.loki_bin), (peers.VictoriaLogs, args.victoria_logs_bin)) if binary]
    for _, binary in binaries:
        if not os.access(binary, os.X_OK):
            sys.exit(f"{binary} cannot be run: give the path of a binary")
    out = corpus(args.bench_dir, args.lines, args.seed)
    if args.corpus_only:
        return
    with tempfile.TemporaryDirectory(prefix="pharos-bench-", dir="target/bench") as data:
        server = Server(data_dir=data).start()
        try:
            bench = Bench(args.bench_dir, out, server)
            bench.ingest()
            bench.ask("after the flush")
            bench.merge()
            bench.measured |= bench.ask("after merging")
            bench.scan()
            server.stop()
            server.start()
            bench.ask("after a restart")
            bench.ask_while_ingesting()
            bench.table()
        finally:
            server.stop()
    if binaries:
        beside(bench, binaries)
    print("\nevery answer was right" if bench.right else "\nAN ANSWER WAS WRONG OR A RECORD IS MISSING")
    sys.exit(0 if bench.right else 1)


if __name__ == "__main__":
    main()
