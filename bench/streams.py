#!/usr/bin/env python3
"""How cost grows with the number of streams: the same lines over few and over very many streams.

usage: streams.py [--streams N ...] [--lines N] [--burst N]

For each number of streams: a fresh server, LINES generated lines in bodies of 8,000, BURST lines of a stream side by
side, and every stream at least once if there are bursts enough. Prints CPU time per line from push to segment, peak
memory, memory at rest after the flush, stored size, and how long the questions take that name streams and labels.
"""
import argparse
import concurrent.futures
import http.client
import json
import random
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
from loki import field, push_body, stream, varint
from server import Server

APPS = ["cart", "checkout", "payments", "users", "search", "mail", "stock", "prices"]
BODY_LINES = 8000
POOL_LINES = 50_000
START_S = 1_790_000_000
PUSHERS = 4


def pool(rnd):
    """Lines as fields of an entry, made once: what is measured is the server, not this program."""
    make = [
        lambda: f"GET /api/v1/items/{rnd.randrange(10**6)} 200 {rnd.randrange(900)}ms client=10.{rnd.randrange(256)}.{rnd.randrange(256)}.7",
        lambda: f"level=info msg=\"order placed\" order={rnd.randrange(10**8)} user=u{rnd.randrange(50_000)} total={rnd.randrange(10**4)}.{rnd.randrange(100):02d}",
        lambda: f"level=error msg=\"payment refused\" trace_id={rnd.getrandbits(128):032x} attempt={rnd.randrange(5)}",
        lambda: f"worker-{rnd.randrange(64)} finished job {rnd.getrandbits(64):016x} in {rnd.randrange(10**5)} us, queue {rnd.randrange(1000)} deep",
    ]
    return [field(2, rnd.choice(make)().encode()) for _ in range(POOL_LINES)]


def label_text(number):
    app = APPS[number % len(APPS)]
    return f'{{app="{app}", cluster="eu-1", namespace="ns{number % 4}", pod="{app}-{number}"}}'.encode()


class Traffic:
    """Bodies of a Loki push, one after the other."""

    def __init__(self, streams, lines, burst, seed=7):
        self.rnd = random.Random(seed)
        self.streams, self.lines, self.burst = streams, lines, burst
        self.pool = pool(self.rnd)

    def order(self):
        """Every stream once in random order, again and again."""
        numbers = list(range(self.streams))
        while True:
            self.rnd.shuffle(numbers)
            yield from numbers

    def bodies(self):
        order, step = self.order(), 3600 * 10**9 // self.lines
        for first in range(0, self.lines, BODY_LINES):
            entries = {}
            last = min(first + BODY_LINES, self.lines)
            for start in range(first, last, self.burst):
                of_stream = entries.setdefault(next(order), [])
                for n in range(start, min(start + self.burst, last)):
                    seconds, nanos = divmod(START_S * 10**9 + n * step, 10**9)
                    at = b"\x08" + varint(seconds) + (b"\x10" + varint(nanos) if nanos else b"")
                    of_stream.append(field(2, field(1, at) + self.pool[n * 7919 % POOL_LINES]))
            yield push_body(*(stream(label_text(k), *of) for k, of in entries.items()))


def push_all(server, traffic):
    headers = {"Content-Type": "application/x-protobuf"}

    def push(body):
        for attempt in range(60):
            connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=120)
            connection.request("POST", "/loki/api/v1/push", body, headers)
            status = connection.getresponse().status
            connection.close()
            if status == 204:
                return attempt
            time.sleep(min(0.1 * 2**attempt, 2))
        sys.exit(f"a body was not taken: {status}")

    with concurrent.futures.ThreadPoolExecutor(PUSHERS) as workers:
        under_way, retries = set(), 0
        for body in traffic.bodies():
            under_way.add(workers.submit(push, body))
            if len(under_way) >= 2 * PUSHERS:
                done, under_way = concurrent.futures.wait(under_way, return_when=concurrent.futures.FIRST_COMPLETED)
                retries += sum(one.result() for one in done)
        return retries + sum(one.result() for one in under_way)


def memory_mb(server, key):
    with open(f"/proc/{server.pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(key))


def ask(server, name, path, **params):
    """The same question twice: cold, then with what the first left in memory."""
    span = {"start": START_S * 10**9, "end": (START_S + 3600) * 10**9}
    url = f"{path}?{urllib.parse.urlencode(span | params)}"
    times = []
    for _ in range(2):
        began, cpu = time.monotonic(), server.cpu_seconds()
        status, body = server.get(url)
        times.append(f"{(time.monotonic() - began) * 1e3:7.0f} ms ({(server.cpu_seconds() - cpu) * 1e3:5.0f} ms CPU)")
    found = json.loads(body) if status == 200 else {}
    data = found.get("data", [])
    rows = data if isinstance(data, list) else data["result"]
    answer = f"{len(rows)} results, {len(body)} bytes" if status == 200 else f"{status} {body[:150]!r}"
    print(f"  {name:28s} {times[0]}, again {times[1]}, {answer}, {memory_mb(server, 'VmRSS'):.0f} MB", flush=True)


def questions(server, streams):
    name = f"cart-{streams // 2 // len(APPS) * len(APPS)}"
    ask(server, "values of app", "/loki/api/v1/label/app/values")
    ask(server, "values of pod", "/loki/api/v1/label/pod/values")
    ask(server, "names of labels", "/loki/api/v1/labels")
    ask(server, "one series", "/loki/api/v1/series", match=f'{{pod="{name}"}}')
    ask(server, "all series", "/loki/api/v1/series", match='{cluster="eu-1"}')
    ask(server, "one stream's lines", "/loki/api/v1/query_range", query=f'{{pod="{name}"}}', limit=1000)
    ask(server, "last 100 of one app", "/loki/api/v1/query_range", query='{app="cart"}', limit=100)
    ask(server, "needle, nowhere", "/loki/api/v1/query_range", query='{cluster="eu-1"} |= "1f2e3d4c5b6a79881f2e3d4c5b6a7988"')
    ask(server, "lines per app", "/loki/api/v1/query", query='sum by (app) (count_over_time({cluster="eu-1"}[1h]))', time=(START_S + 3600) * 10**9)
    ask(server, "lines per stream, top 5", "/loki/api/v1/query", query='topk(5, count_over_time({cluster="eu-1"}[1h]))', time=(START_S + 3600) * 10**9)


def measure(streams, lines, burst):
    with tempfile.TemporaryDirectory(prefix="pharos-streams-") as folder:
        server = Server(data_dir=folder).start()
        try:
            empty, before = memory_mb(server, "VmRSS"), server.cpu_seconds()
            began = time.monotonic()
            retries = push_all(server, Traffic(streams, lines, burst))
            peak = memory_mb(server, "VmHWM")
            server.post("/admin/api/v1/flush")
            cpu = server.cpu_seconds() - before
            took, stored = time.monotonic() - began, server.storage()
            assert stored["records"] == lines, stored
            print(f"{streams} streams, {lines} lines, {burst} side by side, {retries} retries, {took:.0f} s")
            print(f"  CPU                          {cpu / lines * 1e6:.3f} us per line, {lines / cpu:,.0f} lines per CPU second")
            print(f"  memory                       {empty:.0f} MB empty, {peak:.0f} MB at most, {memory_mb(server, 'VmRSS'):.0f} MB after the flush")
            print(f"  stored                       {stored['bytes'] / lines:.2f} bytes per line, {stored['segments']} segments", flush=True)
            before = server.cpu_seconds()
            server.post("/admin/api/v1/merge")
            cpu, stored = server.cpu_seconds() - before, server.storage()
            assert stored["records"] == lines, stored
            print(f"  merged                       {cpu:.1f} s CPU, {stored['bytes'] / lines:.2f} bytes per line, {stored['segments']} segments")
            rest = memory_mb(server, "VmRSS")
            print(f"  memory at rest               {rest:.0f} MB, {(rest - empty) * 2**20 / streams:.0f} bytes per stream; {memory_mb(server, 'VmHWM'):.0f} MB at most", flush=True)
            questions(server, streams)
            print(f"  memory                       {memory_mb(server, 'VmHWM'):.0f} MB at most")
        finally:
            server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[128, 10_000, 1_000_000])
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--burst", type=int, default=2)
    args = parser.parse_args()
    for streams in args.streams:
        measure(streams, args.lines, args.burst)


if __name__ == "__main__":
    main()
