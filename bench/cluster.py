#!/usr/bin/env python3
"""What a write costs in a cluster: lines per CPU second and node, stored bytes, uploads.

usage: cluster.py [--lines N] [--restarts]

Runs 1 process alone (one copy), 3 processes of all roles with one copy, and 3 with three copies; pushes the same lines to
each, round robin over the processes, and prints lines per CPU second of all processes together. CPU is that of the processes from the first push to the end of the flush, less what they take when idle, so
that other work on the machine changes it little. With --restarts it also pushes in rounds while every process is restarted in turn, with one and with
three copies, and compares what is stored. Slots are 5 s, so that flushes are many.
"""
import argparse
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
from cluster import Cluster, wait_until

BATCH = 1000
STREAMS = 60
SHARDS = 8
WORDS = "request served upstream timeout retry cache miss hit user order payment shipped session token expired".split()
OPTIONS = ["--shards", SHARDS, "--slot-duration", "5s", "--slot-grace", "1s", "--merge-enabled", "false", "--takeover-delay", "10s"]


def bodies(lines, seed=7):
    dice = random.Random(seed)
    made = []
    for first in range(0, lines, BATCH):
        streams = {}
        for n in range(first, min(first + BATCH, lines)):
            text = f"level=info id={dice.getrandbits(64):016x} {' '.join(dice.choices(WORDS, k=8))} took {n % 977}ms status={dice.choice((200, 200, 404, 500))}"
            streams.setdefault(n % STREAMS, []).append([str(1_790_000_000 * 10**9 + n * 1000), text])
        made.append(json.dumps({"streams": [
            {"stream": {"app": f"a{s}"}, "values": values} for s, values in streams.items()]}).encode())
    return made


class Run:
    def __init__(self, folder, nodes, replicas):
        options = [*OPTIONS, "--replicas", replicas]
        self.cluster = Cluster(folder, ingesters=0, distributors=0, queriers=0, options=options)
        for at in range(nodes):
            self.cluster.add("all", "abc"[at % 3])
        founders = ",".join(member.rpc for member in self.cluster.members)
        for member in self.cluster.members:
            member.join = founders
        self.cluster.start()
        wait_until(self.is_whole, "a whole cluster")
        self.spent = {member: 0.0 for member in self.cluster.members}
        self.uploads = 0

    def is_whole(self):
        rings = [self.cluster.ring(member) for member in self.cluster.members]
        return all(not ring["past_rings"] and len(ring["voters"]) == len(rings) for ring in rings)

    def cpu(self):
        return sum(member.cpu_seconds() + self.spent[member] for member in self.cluster.members)

    def idle(self, seconds=5):
        """CPU seconds a second of all together when nothing is asked of them."""
        before = self.cpu()
        time.sleep(seconds)
        return (self.cpu() - before) / seconds

    def push(self, pushes):
        """Four clients; a batch is sent again until it is taken."""
        turn, lock = iter(pushes), threading.Lock()

        def client(at):
            while True:
                with lock:
                    body = next(turn, None)
                if body is None:
                    return
                while True:
                    at += 1
                    member = self.cluster.members[at % len(self.cluster.members)]
                    try:
                        if member.request("POST", "/loki/api/v1/push", body, {"Content-Type": "application/json"}, timeout=30)[0] == 204:
                            break
                    except OSError:
                        pass
                    time.sleep(0.02)

        threads = [threading.Thread(target=client, args=(at,)) for at in range(4)]
        for thread in threads:
            thread.start()
        return threads

    def restart(self, member):
        self.spent[member] += member.cpu_seconds()
        member.stop()
        member.start()

    def settle(self):
        """Waits until the ingesters have stored all slots by themselves: who is first does it for all."""
        def stored():
            texts = [member.get("/metrics")[1].decode() for member in self.cluster.members]
            return all(value(text, "pharos_ingester_head_bytes") == 0 for text in texts)
        wait_until(stored, "everything stored", 120)

    def stored(self):
        return self.cluster.members[0].storage()


def value(text, name):
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith((name + " ", name + "{")))


def throughput(lines, pushes, nodes, replicas):
    with tempfile.TemporaryDirectory(prefix="pharos-bench-") as folder:
        run = Run(folder, nodes, replicas)
        try:
            idle = run.idle()
            before, began = run.cpu(), time.monotonic()
            for thread in run.push(pushes):
                thread.join()
            acknowledged = run.cpu() - before - idle * (time.monotonic() - began)
            run.settle()
            cpu, stored = run.cpu() - before - idle * (time.monotonic() - began), run.stored()
            objects = list(Path(folder).glob("bucket/segments/*/logs/*/*.seg"))
            assert stored["records"] == lines, stored
            name = f"{nodes} nodes, {replicas} copies"
            print(f"{name}: {lines / cpu:,.0f} lines per CPU second ({lines / acknowledged:,.0f} until acknowledged), "
                  f"{stored['bytes']:,} bytes in {stored['segments']} segments, {len(objects)} objects uploaded, idle {idle * 100:.1f} % of a CPU", flush=True)
            return lines / cpu, stored["bytes"]
        finally:
            run.cluster.stop()


def restarts(pushes, replicas):
    """Bytes and segments stored while every process is restarted once."""
    with tempfile.TemporaryDirectory(prefix="pharos-bench-") as folder:
        run = Run(folder, 3, replicas)
        try:
            for at, member in enumerate(run.cluster.members):
                threads = run.push(pushes[at::3])
                time.sleep(1)
                run.restart(member)
                for thread in threads:
                    thread.join()
            run.settle()
            stored = run.stored()
            run.cluster.members[0].post("/admin/api/v1/merge")
            merged = run.stored()
            print(f"restarts, {replicas} copies: {stored['bytes']:,} bytes, {stored['records']:,} records in {stored['segments']} segments; "
                  f"{merged['bytes']:,} bytes when merged", flush=True)
            return stored, merged
        finally:
            run.cluster.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=600_000)
    parser.add_argument("--restarts", action="store_true")
    arguments = parser.parse_args()
    pushes = bodies(arguments.lines)
    alone, _ = throughput(arguments.lines, pushes, 1, 1)
    one, bytes_one = throughput(arguments.lines, pushes, 3, 1)
    three, bytes_three = throughput(arguments.lines, pushes, 3, 3)
    print(f"lines per CPU second beside a process alone: 3 nodes, 1 copy {one / alone:.2f}, 3 copies {three / alone:.2f}; "
          f"bytes of 3 copies to 1: {bytes_three / bytes_one:.3f}")
    if arguments.restarts:
        (once, once_merged), (thrice, thrice_merged) = restarts(pushes, 1), restarts(pushes, 3)
        print(f"with restarts, 3 copies to 1: records {thrice['records'] / once['records']:.4f}, bytes {thrice['bytes'] / once['bytes']:.3f} "
              f"(of {thrice['segments']} and {once['segments']} segments), merged {thrice_merged['bytes'] / once_merged['bytes']:.3f}")


if __name__ == "__main__":
    main()
