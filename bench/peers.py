"""Other log databases beside Pharos, on the same corpus and with the same questions: Loki and VictoriaLogs.

Each runs from a binary that whoever measures has built or downloaded, with its own defaults as far as they have to do
with speed and space. What differs from them: limits are raised so that nothing is refused, results of queries are not
cached (asking again would measure the cache), and everything listens on loopback.
"""
import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import logsql
from server import Server, free_port

ANSWER = re.compile(r"^(?P<name>.+?) +(?P<median>[0-9.]+) ms +first +(?P<first>[0-9.]+) ms +(?P<verdict>.*)$")

# No substring of this is fixed and it crosses the border of a token, so that no index, filter or dictionary can answer
# it, nor the values of a segment by themselves: every line is put together and looked at.
UNSELECTIVE = 'sum(count_over_time({cluster="eu-1"} |~ "[x-z][0-9][ -/:][x-z]" [2h]))'

SCANS = 3


def push(bench_dir, url, corpus, *options):
    """Command that sends the whole corpus to a Loki push endpoint."""
    return [sys.executable, bench_dir / "pushlogs.py", url, corpus, *options]


def ask_logql(bench_dir, url, corpus, runs):
    """Asks the 13 questions over Loki's API; medians in ms by question, and whether all answers were right."""
    command = [sys.executable, bench_dir / "querylogs.py", url, corpus, "--runs", str(runs)]
    asked = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    medians = {}
    for line in asked.stdout:
        print("  " + line.rstrip(), flush=True)
        if found := ANSWER.match(line):
            medians[found["name"].strip()] = float(found["median"])
    return medians, asked.wait() == 0


def scan_logql(server, end_ns):
    """Looks through every line once."""
    query = urllib.parse.urlencode({"query": UNSELECTIVE, "time": end_ns + 10**9})
    status, body = server.get("/loki/api/v1/query?" + query)
    if status != 200:
        sys.exit(f"the scan was answered {status}: {body[:300]!r}")


def folder_bytes(*folders):
    return sum(file.stat().st_size for folder in folders for file in Path(folder).rglob("*") if file.is_file())


class Peer(Server):
    """Another database; started, stopped and looked at like our own."""

    name: str
    push_path: str

    def __init__(self, binary, folder):
        super().__init__(folder, log=open(Path(folder) / "log.txt", "ab"))
        self.binary = binary

    def end(self, patience=600.0):
        """Stops it gracefully, so that what it holds in memory is written; CPU seconds of its life and peak MB."""
        self.process.terminate()
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
            time.sleep(0.05)
        sys.exit(f"{self.name} did not stop within {patience:.0f} s")

    def merge(self):
        """Has it bring its files into the shape that it keeps, where it has such a request."""


class Loki(Peer):
    name = "Loki"
    push_path = "/loki/api/v1/push"

    def command(self):
        config = Path(self.data_dir) / "loki.yaml"
        # JSON is YAML too.
        config.write_text(json.dumps(self.config(), indent=1))
        return [self.binary, f"-config.file={config}", "-memberlist.bind-addr=127.0.0.1", f"-memberlist.bind-port={free_port()}"]

    def config(self):
        data = Path(self.data_dir).resolve()
        loopback = {"instance_addr": "127.0.0.1", "kvstore": {"store": "inmemory"}}
        return {
            "auth_enabled": False,
            "analytics": {"reporting_enabled": False},
            "server": {
                "http_listen_address": "127.0.0.1", "http_listen_port": self.http_port,
                "grpc_listen_address": "127.0.0.1", "grpc_listen_port": self.grpc_port,
                "log_level": "warn",
            },
            "common": {
                "path_prefix": str(data), "replication_factor": 1, "ring": loopback, "instance_addr": "127.0.0.1",
                "storage": {"filesystem": {"chunks_directory": str(data / "chunks"), "rules_directory": str(data / "rules")}},
            },
            "schema_config": {"configs": [{
                "from": "2020-01-01", "store": "tsdb", "object_store": "filesystem", "schema": "v13",
                "index": {"prefix": "index_", "period": "24h"},
            }]},
            "ingester": {
                "lifecycler": {"min_ready_duration": "0s"},
                # What its memory holds becomes chunks when it stops.
                "wal": {"enabled": True, "dir": str(data / "wal"), "flush_on_shutdown": True},
            },
            "query_range": {"cache_results": False},
            "limits_config": {
                "reject_old_samples": False,
                "ingestion_rate_mb": 10_000, "ingestion_burst_size_mb": 10_000,
                "per_stream_rate_limit": "10GB", "per_stream_rate_limit_burst": "10GB",
                "max_query_length": "0s", "max_query_series": 100_000, "query_timeout": "5m",
            },
        }

    def stored_bytes(self):
        """Chunks and shipped index; neither log nor caches."""
        return folder_bytes(Path(self.data_dir) / "chunks")

    def ask(self, bench_dir, corpus, runs):
        return ask_logql(bench_dir, self.url, corpus, runs)

    def scan(self, truth):
        scan_logql(self, truth["end_ns"])


class VictoriaLogs(Peer):
    name = "VictoriaLogs"
    push_path = "/insert/loki/api/v1/push"
    READY = "/health"

    def command(self):
        return [
            self.binary, f"-httpListenAddr=127.0.0.1:{self.http_port}", f"-storageDataPath={self.data_dir}/data",
            # The corpus has times of its own.
            "-retentionPeriod=100y", "-futureRetention=100y",
        ]

    def merge(self):
        self.get("/internal/force_flush")
        self.get("/internal/force_merge")
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            metrics = self.get("/metrics")[1].decode()
            if all(value == "0" for value in re.findall(r"^vl_active_(?:force_)?merges\S* (\S+)$", metrics, re.M)):
                return
            time.sleep(0.2)
        sys.exit("VictoriaLogs did not end merging")

    def stored_bytes(self):
        return folder_bytes(Path(self.data_dir) / "data")

    def ask(self, bench_dir, corpus, runs):
        return logsql.ask(self, json.loads((corpus / "truth.json").read_text()), runs)

    def scan(self, truth):
        logsql.scan(self, truth)


def measure(peer, bench_dir, corpus, runs=5):
    """All that is measured of Pharos and has a like there; and whether every answer was right."""
    truth = json.loads((corpus / "truth.json").read_text())
    print(f"\n{peer.name}:", flush=True)
    try:
        started = peer.start().cpu_seconds()
        command = push(bench_dir, peer.url + peer.push_path, corpus)
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        pushed = json.loads(done.stdout.splitlines()[-1])
        cpu, memory = peer.end()
        print(f"  pushed in {pushed['secs']} s, {pushed['retries']} retries, {pushed['failed']} failed; {cpu - started:.1f} s CPU until stored")
        peer.start()
        peer.merge()
        medians, right = peer.ask(bench_dir, corpus, runs)
        before = peer.cpu_seconds()
        for _ in range(SCANS):
            peer.scan(truth)
        scanned = peer.cpu_seconds() - before
        peer.end()
        measured = medians | {
            "ingest": truth["lines"] / (cpu - started),
            "peak memory while ingesting": memory,
            "stored after merging": peer.stored_bytes() / truth["lines"],
            "scan that no index helps": SCANS * truth["bytes"] / 1e9 / max(scanned, 0.01),
        }
        return measured, right and pushed["failed"] == 0
    finally:
        peer.kill()


def table(figure, rows, ours, theirs):
    """`rows` are name, unit and whether more is better; `theirs` what was measured, by database."""
    print(f"\n{'':34s} {'Pharos':>11s}" + "".join(f" {name:>13s} {'times':>8s}" for name in theirs))
    for name, unit, more_is_better in rows:
        cells = ""
        for measured in theirs.values():
            if name not in measured:
                cells += f" {'-':>13s} {'-':>8s}"
                continue
            ratio = ours[name] / measured[name] if more_is_better else measured[name] / ours[name]
            cells += f" {figure(measured[name]):>13s} {ratio:>8.2f}"
        print(f"{name:34s} {figure(ours[name]):>11s}{cells}  {unit}")
    print("times: how many times better Pharos is")
