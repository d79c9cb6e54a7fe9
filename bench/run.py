#!/usr/bin/env python3
"""Benchmark of one Pharos process: ingest cost, memory, stored size, and the time of 13 questions.

usage: run.py --bench-dir DIR [--lines N] [--seed N]

Makes the corpus once (under target/bench), starts a fresh server with fsync on, pushes, flushes,
asks, merges, asks again, restarts, asks a last time. Prints what it saw; exits 1 if an answer was
wrong. With LOKI_BIN it also prints how to compare: the same corpus and questions work on Loki.
"""
import argparse, json, os, re, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
from server import Server


def corpus(bench, lines, seed):
    out = Path("target/bench") / f"corpus-{lines}-{seed}"
    if not (out / "truth.json").exists():
        print(f"making a corpus of {lines} lines in {out}", flush=True)
        out.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, bench / "loggen.py", bench / "loghub", out, str(lines), "--seed", str(seed)], check=True)
    return out


def push(bench, server, out):
    command = [sys.executable, bench / "pushlogs.py", f"{server.url}/loki/api/v1/push", out, "--pid", str(server.pid)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def ask(bench, server, out, when):
    print(f"\nquestions {when}:", flush=True)
    command = [sys.executable, bench / "querylogs.py", server.url, out]
    return subprocess.run(command).returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench-dir", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=5_000_000)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    bench = args.bench_dir
    if not (bench / "loggen.py").exists():
        sys.exit(f"{bench} has no loggen.py: give the benchmark's folder with BENCH_DIR=")
    out = corpus(bench, args.lines, args.seed)
    raw = json.loads((out / "truth.json").read_text())["bytes"]
    with tempfile.TemporaryDirectory(prefix="pharos-bench-", dir="target/bench") as data:
        server = Server(data_dir=data).start()
        try:
            cpu_before = server.cpu_seconds()
            pushed = push(bench, server, out)
            server.post("/admin/api/v1/flush")
            cpu = server.cpu_seconds() - cpu_before
            stored = server.storage()
            records = stored["records"]
            print(f"lines                     {pushed['lines']} ({raw / 1e6:.0f} MB raw), {records} stored")
            print(f"pushed in                 {pushed['secs']} s, {pushed['lines_s']} lines/s, {pushed['retries']} retries")
            print(f"server CPU to segment     {cpu:.2f} s")
            print(f"lines per CPU second      {records / cpu:,.0f}")
            print(f"raw MB per CPU second     {raw / 1e6 / cpu:.0f}")
            print(f"peak memory               {server.peak_memory_mb():.0f} MB")
            print(f"stored after flush        {stored['bytes'] / records:.2f} bytes/line in {stored['segments']} segments")
            right = ask(bench, server, out, "after flush")
            cpu_before = server.cpu_seconds()
            server.post("/admin/api/v1/merge")
            stored = server.storage()
            print(f"\nmerged with               {server.cpu_seconds() - cpu_before:.2f} s CPU")
            print(f"stored after merging      {stored['bytes'] / stored['records']:.2f} bytes/line in {stored['segments']} segments")
            right &= stored["records"] == records
            right &= ask(bench, server, out, "after merging")
            print(f"peak memory               {server.peak_memory_mb():.0f} MB")
            server.stop()
            server.start()
            right &= ask(bench, server, out, "after a restart")
        finally:
            server.stop()
    sys.exit(0 if right else 1)


main()
