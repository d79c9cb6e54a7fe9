#!/usr/bin/env python3
"""Pushes sample.jsonl as if it had happened in the last ten minutes and asks three questions.

Uses the server at PHAROS_URL (default http://127.0.0.1:3100) if one is ready there; otherwise
starts one of its own with a temporary data folder and stops it at the end.
"""
import json
import os
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "e2e"))
from server import Server


def call(url, body=None):
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def push(url, begin):
    streams = {}
    for row in map(json.loads, (HERE / "sample.jsonl").open()):
        key = json.dumps(row["labels"], sort_keys=True)
        stream = streams.setdefault(key, {"stream": row["labels"], "values": []})
        stream["values"].append([str(int((begin + row["at"]) * 1e9)), row["line"]])
    call(url + "/loki/api/v1/push", json.dumps({"streams": list(streams.values())}).encode())
    count = sum(len(stream["values"]) for stream in streams.values())
    print(f"pushed {count} lines in {len(streams)} streams to {url}\n")


def ask(url, title, path, **parameters):
    print(f"{title}\n  {parameters['query']}")
    answer = json.loads(call(f"{url}/loki/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))
    for row in answer["data"]["result"]:
        if "value" in row:
            name = ", ".join(f"{k}={v}" for k, v in sorted(row["metric"].items()))
            print(f"  {row['value'][1]:>10}  {name}")
        for timestamp, line in row.get("values", []):
            at = time.strftime("%H:%M:%S", time.gmtime(int(timestamp) // 10**9))
            print(f"  {at}  {row['stream']['service_name']:<9} {line}")
    print()


def questions(url, begin):
    end = begin + 601
    ask(url, "The last three errors of the checkout service:", "query_range", limit=3,
        query='{service_name="checkout"} | logfmt | level="error"',
        start=int(begin * 1e9), end=int(end * 1e9))
    ask(url, "Lines per service in these ten minutes:", "query", time=end,
        query="sum by (service_name) (count_over_time({namespace=~\".+\"}[11m]))")
    ask(url, "95th percentile of the gateway's answer time by status, in milliseconds:", "query", time=end,
        query='quantile_over_time(0.95, {service_name="gateway"} | json | unwrap duration_ms [11m]) by (status)')


def is_ready(url):
    try:
        return call(url + "/ready") is not None
    except OSError:
        return False


def main():
    begin = time.time() - 600
    url = os.environ.get("PHAROS_URL", "http://127.0.0.1:3100")
    if is_ready(url):
        push(url, begin)
        questions(url, begin)
        return
    with tempfile.TemporaryDirectory(prefix="pharos-demo-") as data:
        server = Server(data).start()
        try:
            push(server.url, begin)
            questions(server.url, begin)
        finally:
            server.stop()


main()
