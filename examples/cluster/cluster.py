#!/usr/bin/env python3
"""Starts a cluster on this machine: 3 ingesters in 3 zones, 2 distributors, 2 queriers, one folder as the bucket.

usage: cluster.py [--data-dir DIR]      (make cluster)

Prints where to send and where to ask, and runs until Ctrl-C. Every process can be killed by the number that is
printed, and Enter starts it again. The data stay; the next start goes on with them.
"""
import argparse
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

# (name, role, zone, first of its ports)
PROCESSES = [
    ("ingester-a", "ingester", "zone-a", 3200),
    ("ingester-b", "ingester", "zone-b", 3210),
    ("ingester-c", "ingester", "zone-c", 3220),
    ("distributor-a", "distributor", "zone-a", 3230),
    ("distributor-b", "distributor", "zone-b", 3240),
    ("querier-a", "querier", "zone-a", 3250),
    ("querier-b", "querier", "zone-b", 3260),
]
HTTP, RPC, OTLP_GRPC, OTLP_HTTP = range(4)


def port(name, kind):
    first = next(first for other, _, _, first in PROCESSES if other == name)
    return first + kind


def address(name, kind):
    return f"127.0.0.1:{port(name, kind)}"


def launch(name, data):
    _, role, zone, _ = next(process for process in PROCESSES if process[0] == name)
    founders = [address(other, RPC) for other, kind, _, _ in PROCESSES if kind == "ingester"]
    folder = data / name
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        os.environ.get("PHAROS_BIN", "target/release/pharos"), "serve", "--roles", role, "--zone", zone,
        "--data-dir", folder, "--storage-url", data.resolve() / "bucket",
        "--http-addr", address(name, HTTP), "--rpc-addr", address(name, RPC), "--join", ",".join(founders),
        "--otlp-grpc-addr", address(name, OTLP_GRPC), "--otlp-http-addr", address(name, OTLP_HTTP),
    ]
    log = open(folder / "log", "a")
    # A session of its own: Ctrl-C reaches this script alone, which ends the processes in order.
    return subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, start_new_session=True)


def ready(name):
    try:
        with urllib.request.urlopen(f"http://{address(name, HTTP)}/ready", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def start(data):
    running = {name: launch(name, data) for name, *_ in PROCESSES}
    deadline = time.monotonic() + 60
    while not all(map(ready, running)):
        ended = [name for name, process in running.items() if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            stop(running)
            sys.exit(f"{', '.join(ended) or 'the cluster'} did not start: see {data}/*/log")
        time.sleep(0.1)
    return running


def stop(running):
    """Distributors and queriers first, so that nobody is asked who is gone."""
    for name in reversed(running):
        if running[name].poll() is None:
            running[name].send_signal(signal.SIGTERM)
            running[name].wait()


def explain(running, data):
    url = f"http://{address('querier-a', HTTP)}"
    print(f"send  Loki push      http://{address('distributor-a', HTTP)}/loki/api/v1/push   (or port {port('distributor-b', HTTP)})")
    print(f"      OTLP gRPC      {address('distributor-a', OTLP_GRPC)}                          (or port {port('distributor-b', OTLP_GRPC)})")
    print(f"      OTLP HTTP      http://{address('distributor-a', OTLP_HTTP)}/v1/logs            (or port {port('distributor-b', OTLP_HTTP)})")
    print(f"ask   Grafana, Loki  {url}                          (or port {port('querier-b', HTTP)})")
    print(f"see   the ring       {os.environ.get('PHAROS_BIN', 'target/release/pharos')} ring --address {url}")
    print(f"      logs           {data}/*/log")
    for name, process in running.items():
        print(f"kill  {name:14} kill -9 {process.pid}")
    print("Enter starts again what was killed; Ctrl-C ends all.", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=pathlib.Path, default=pathlib.Path("data/cluster"))
    data = parser.parse_args().data_dir
    running = start(data)
    try:
        while True:
            explain(running, data)
            if not sys.stdin.readline():
                signal.pause()  # no terminal: until it is ended
            for name in [name for name, process in running.items() if process.poll() is not None]:
                running[name] = launch(name, data)
                print(f"started {name} again")
    except KeyboardInterrupt:
        print("stopping", flush=True)
    finally:
        stop(running)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
