#!/usr/bin/env python3
"""Stored size and ingest cost for shapes of logs that the main corpus does not have.

usage: shapes.py [--megabytes N] [--seed N] [--bench-dir DIR] [SHAPE ...]

For each shape: a fresh server, N MB of generated lines pushed over four streams, flushed and merged, and each of
some lines found again. The size is compared with `zstd -3` of the same text, which it must not exceed by more than
a tenth, and the CPU time per byte with that of as much of the main corpus, if its generator is there: it must not
be more than twice as much.
"""
import argparse
import base64
import json
import random
import sys
import tempfile
import uuid
from pathlib import Path

import cramjam

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
from loki import BASE_NS, entry, lines, push, stream
from run import corpus
from server import Server

WORDS = "request response timeout connection user order payment cache session token worker queue shard replica index".split()
PATHS = ["/", "/login", "/cart", "/api/v1/items", "/api/v1/orders", "/static/app.js", "/search"]
BATCH_BYTES = 1_000_000
STREAMS = 4


def words(rnd, least, most):
    return " ".join(rnd.choices(WORDS, k=rnd.randint(least, most)))


def json_line(rnd, n):
    return json.dumps({
        "ts": f"2026-09-21T12:{n // 60000 % 60:02d}:{n // 1000 % 60:02d}.{n % 1000:03d}Z", "level": rnd.choice(["info", "info", "info", "warn", "error"]),
        "msg": words(rnd, 3, 6), "trace_id": f"{rnd.getrandbits(128):032x}", "user": {"id": rnd.randrange(50_000), "plan": rnd.choice(["free", "pro"])},
        "duration_ms": round(rnd.expovariate(0.02), 3), "bytes": rnd.randrange(100_000)})


def access_line(rnd, n):
    address = ".".join(str(rnd.randrange(1, 255)) for _ in range(4))
    return (f'{address} - - [21/Sep/2026:12:{n // 6000 % 60:02d}:{n // 100 % 60:02d} +0000] "GET {rnd.choice(PATHS)}?id={rnd.randrange(10**6)} HTTP/1.1" '
            f'{rnd.choice([200, 200, 200, 301, 404, 500])} {rnd.randrange(50_000)} "-" "Mozilla/5.0 (X11; Linux x86_64) Firefox/{rnd.randrange(90, 130)}.0"')


def stack_trace(rnd, n):
    frames = "".join(f"\n\tat com.shop.{rnd.choice(WORDS)}.{rnd.choice(WORDS).title()}Service.handle({rnd.choice(WORDS).title()}.java:{rnd.randrange(900)})" for _ in range(rnd.randint(5, 25)))
    return f"ERROR [worker-{rnd.randrange(32)}] java.lang.IllegalStateException: order {rnd.randrange(10**9)} {words(rnd, 2, 4)}{frames}"


def long_line(rnd, n):
    return f"dump {n}: " + " ".join(f"{rnd.choice(WORDS)}={rnd.randrange(10**6)}" for _ in range(600))


def random_line(rnd, n):
    return base64.b64encode(rnd.randbytes(rnd.randint(60, 300))).decode()


def uuid_line(rnd, n):
    return f"processed {uuid.UUID(int=rnd.getrandbits(128))} for {uuid.UUID(int=rnd.getrandbits(128))} in {rnd.random() * 100:.6f} ms"


def unlike_line(rnd, n):
    """Words in any order and number: hardly two lines share a template."""
    return " ".join("".join(rnd.choices("abcdefghijklmnopqrstuvwxyz", k=rnd.randint(2, 9))) for _ in range(rnd.randint(5, 25)))


def tiny_line(rnd, n):
    """0 to 10 bytes: what a record costs beside its text."""
    return rnd.choice(("ok", ".", "", str(rnd.randrange(100)), rnd.choice(WORDS), f"t{rnd.randrange(1000)}", f"{rnd.choice(WORDS)[:7]}={rnd.randrange(100)}"))


SHAPES = {
    "JSON": json_line, "access log": access_line, "stack traces": stack_trace, "long lines": long_line,
    "high entropy": random_line, "two UUIDs": uuid_line, "no two alike": unlike_line,
    "tiny lines": tiny_line,
}


def generate(shape, size, seed):
    rnd, texts, made = random.Random(seed), [], 0
    while made < size:
        texts.append(SHAPES[shape](rnd, len(texts)))
        made += len(texts[-1]) + 1
    return texts


def bodies(texts):
    """Pushes of about a megabyte, streams in turn; line n is n microseconds after the start."""
    at = 0
    while at < len(texts):
        entries, size = [[] for _ in range(STREAMS)], 0
        while at < len(texts) and size < BATCH_BYTES:
            entries[at % STREAMS].append(entry(BASE_NS + at * 1000, texts[at]))
            size += len(texts[at])
            at += 1
        yield [stream(f'{{job="shapes", pod="{pod}"}}', *found) for pod, found in enumerate(entries)]


def reference(folder, size, seed):
    """CPU seconds per byte of the main corpus, from push to segment."""
    if not (folder / "loggen.py").exists():
        print(f"{folder} has no loggen.py, so CPU time is not compared with the main corpus")
        return None
    out = corpus(folder, size // 137 + 8000, seed)
    raw = json.loads((out / "truth.json").read_text())["bytes"]
    with tempfile.TemporaryDirectory(prefix="pharos-shapes-") as data:
        server = Server(data_dir=data).start()
        try:
            before = server.cpu_seconds()
            for path in sorted(out.glob("*.sz")):
                server.post("/loki/api/v1/push", path.read_bytes(), headers={"Content-Type": "application/x-protobuf"})
            server.post("/admin/api/v1/flush")
            cpu = server.cpu_seconds() - before
        finally:
            server.stop()
    print(f"{'main corpus':14s} {'':9s} {raw / 1e6 / cpu:10.0f}", flush=True)
    return cpu / raw


def measure(shape, texts, main):
    raw = sum(len(text) + 1 for text in texts)
    whole = len(bytes(cramjam.zstd.compress("\n".join(texts).encode(), level=3)))
    pushes = list(bodies(texts))
    with tempfile.TemporaryDirectory(prefix="pharos-shapes-") as data:
        server = Server(data_dir=data).start()
        try:
            before = server.cpu_seconds()
            for streams in pushes:
                status, _, answer = push(server, *streams)
                if status != 204:
                    sys.exit(f"{shape}: {status} {answer[:300]!r}")
            server.post("/admin/api/v1/flush")
            cpu = server.cpu_seconds() - before
            flushed = server.storage()["bytes"]
            server.post("/admin/api/v1/merge")
            stored = server.storage()
            right = stored["records"] == len(texts)
            for n in range(0, len(texts), max(len(texts) // 20, 1)):
                at = BASE_NS + n * 1000
                right &= lines(server, '{job="shapes"}', start=at, end=at + 1) == [texts[n]]
            memory = server.peak_memory_mb()
        finally:
            server.stop()
    verdict = "" if stored["bytes"] <= 1.1 * whole else "  TOO LARGE"
    ratio = cpu / raw / main if main else 0
    verdict += "" if ratio <= 2 else "  TOO COSTLY"
    print(f"{shape:14s} {raw / len(texts):9.0f} {raw / 1e6 / cpu:10.0f} {ratio:7.2f} {raw / flushed:9.2f} {raw / stored['bytes']:8.2f} {raw / whole:8.2f} "
          f"{memory:8.0f}  {'right' if right else 'WRONG'}{verdict}", flush=True)
    return right


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=list(SHAPES), metavar="SHAPE")
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--bench-dir", type=Path, default=Path("../shared/bench"), help="the main corpus' generator")
    args = parser.parse_args()
    size = args.megabytes * 10**6
    print(f"{'':14s} {'bytes per':>9s} {'MB per CPU':>10s} {'CPU':>7s} {'-------':>9s} times smaller {'----':>3s} {'peak':>8s}")
    print(f"{'':14s} {'line':>9s} {'second':>10s} {'x main':>7s} {'flushed':>9s} {'merged':>8s} {'zstd -3':>8s} {'MB':>8s}")
    main_cost = reference(args.bench_dir, size, args.seed)
    right = [measure(shape, generate(shape, size, args.seed), main_cost) for shape in args.shapes]
    sys.exit(0 if all(right) else 1)


if __name__ == "__main__":
    main()
