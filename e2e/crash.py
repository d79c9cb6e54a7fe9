#!/usr/bin/env python3
"""Kills the server with SIGKILL at random while clients push, then looks for lost or doubled lines.

usage: crash.py [--rounds N] [--seed N]

Clients push small batches and send each again, unchanged, until it is acknowledged. Small heads make
flushes and merges run all the time, so that kills meet every step of a write. Afterwards every
acknowledged line must be found exactly once, every other line at most once: as it is, after a flush
and a merge, and after a restart.
"""
import argparse
import http.client
import json
import random
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from server import Server

BATCH_LINES = 40
CLIENTS = 3
BASE_NS = 1_790_000_000 * 10**9
# Short enough for a life of half a second to meet flushes, merges and deletions.
OPTIONS = [
    "--head-bytes-max", "64KiB", "--slot-duration", "1s", "--merge-interval", "50ms", "--merge-inputs-min", "2",
    "--delete-grace", "2s", "--log-filter", "warn",
]


class Ledger:
    """What was acknowledged: batch numbers; a line's number is its batch's times BATCH_LINES plus its place."""

    def __init__(self):
        self.lock = threading.Lock()
        self.next_batch = 0
        self.acknowledged = set()

    def take(self):
        with self.lock:
            self.next_batch += 1
            return self.next_batch - 1

    def acknowledge(self, batch):
        with self.lock:
            self.acknowledged.add(batch)

    def lines(self):
        return {batch * BATCH_LINES + i for batch in self.acknowledged for i in range(BATCH_LINES)}


def body(batch, client):
    numbers = range(batch * BATCH_LINES, (batch + 1) * BATCH_LINES)
    values = [[str(BASE_NS + n), f"line number={n} of client {client} took {n % 977}ms"] for n in numbers]
    return json.dumps({"streams": [{"stream": {"job": "crash", "client": str(client)}, "values": values}]}).encode()


def client(server, ledger, number, stop, pause=0.0):
    while not stop.is_set():
        time.sleep(pause)
        batch = ledger.take()
        content = body(batch, number)
        while True:
            try:
                status, _, _ = server.request(
                    "POST", "/loki/api/v1/push", content, {"Content-Type": "application/json"}, timeout=10)
            except (OSError, http.client.HTTPException):
                status = 0
            if status == 204:
                ledger.acknowledge(batch)
                break
            if stop.is_set():
                return
            time.sleep(0.02)


def found_lines(server):
    """Numbers of all lines that the server shows, copies included."""
    numbers, start = [], BASE_NS
    while True:
        query = urllib.parse.urlencode({
            "query": '{job="crash"}', "limit": 5000, "direction": "forward",
            "start": start, "end": BASE_NS + 10**12})
        status, text = server.get("/loki/api/v1/query_range?" + query)
        if status != 200:
            raise RuntimeError(f"query: {status} {text[:300]!r}")
        values = [value for stream in json.loads(text)["data"]["result"] for value in stream["values"]]
        if not values:
            return numbers
        numbers += [int(line.split("number=")[1].split()[0]) for _, line in values]
        # Timestamps are unique, so a page ends where the next begins.
        start = max(int(timestamp) for timestamp, _ in values) + 1


def verify(server, ledger, when):
    found = found_lines(server)
    shown = set(found)
    lost = ledger.lines() - shown
    doubled = len(found) - len(shown)
    print(f"{when}: {len(ledger.lines())} acknowledged, {len(found)} found, {len(lost)} lost, {doubled} doubled", flush=True)
    return not lost and not doubled


def run(rounds, seed, data_dir):
    rnd = random.Random(seed)
    ledger, stop = Ledger(), threading.Event()
    server = Server(data_dir, OPTIONS).start()
    try:
        clients = [threading.Thread(target=client, args=(server, ledger, n, stop)) for n in range(CLIENTS)]
        for thread in clients:
            thread.start()
        try:
            for _ in range(rounds):
                time.sleep(rnd.uniform(0.02, 1.0))
                server.kill()
                server.start()
        finally:
            stop.set()
            for thread in clients:
                thread.join()
        assert ledger.acknowledged, "nothing was acknowledged: the run proves nothing"
        right = verify(server, ledger, f"after {rounds} kills")
        server.post("/admin/api/v1/flush")
        server.post("/admin/api/v1/merge")
        right &= verify(server, ledger, "after a flush and a merge")
        server.stop()
        server.start()
        right &= verify(server, ledger, "after a restart")
        return right
    finally:
        server.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pharos-crash-") as data_dir:
        sys.exit(0 if run(args.rounds, args.seed, data_dir) else 1)


if __name__ == "__main__":
    main()
