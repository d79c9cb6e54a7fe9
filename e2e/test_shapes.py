"""Logs of many shapes: counts and needles are right in heads, in segments as flushed, and merged."""
import json
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest

from server import Server

GENERATOR = Path(__file__).resolve().parent.parent / "bench" / "corpora.py"
SHAPES = ["json", "access", "java", "long", "entropy", "numbers", "utf8", "prose", "otlp", "streams", "random", "copies"]
PROTOBUF = {"Content-Type": "application/x-protobuf"}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    subprocess.run([sys.executable, GENERATOR, folder, *SHAPES, "--megabytes", "1", "--seed", "5"], check=True)
    return folder


def ask(server, path, tenant, **parameters):
    query = urllib.parse.urlencode(parameters)
    status, _, body = server.request("GET", f"/loki/api/v1/{path}?{query}", headers={"X-Scope-OrgID": tenant})
    assert status == 200, body
    return json.loads(body)["data"]["result"]


def counts(server, shape, truth, line_filter=""):
    end = truth["end_ns"] // 10**9 + 2
    seconds = end - truth["start_ns"] // 10**9 + 5
    query = f'sum by (app) (count_over_time({{app=~".+"}} {line_filter} [{seconds}s]))'
    result = ask(server, "query", shape, query=query, time=end)
    return {row["metric"]["app"]: int(row["value"][1]) for row in result}


def check(server, corpora, shape):
    truth = json.loads((corpora / shape / "truth.json").read_text())
    assert counts(server, shape, truth) == truth["apps"]
    for text, per_app in truth["subs"].items():
        assert counts(server, shape, truth, f"|= {json.dumps(text)}") == per_app, text
    assert truth["needles"]
    for needle in truth["needles"][:4]:
        for text in (needle["id"], needle["id"][3:-3]):
            query = '{app=~".+"} |= ' + json.dumps(text)
            result = ask(server, "query_range", shape, query=query, start=truth["start_ns"], end=truth["end_ns"] + 1)
            assert [value[1] for stream in result for value in stream["values"]] == [needle["line"]]


def test_every_shape_is_answered_right_wherever_it_lies(corpora, tmp_path):
    server = Server(tmp_path).start()
    try:
        for shape in SHAPES:
            for body in sorted((corpora / shape).glob("*.sz")):
                headers = {**PROTOBUF, "X-Scope-OrgID": shape}
                status, _, answer = server.request("POST", "/loki/api/v1/push", body.read_bytes(), headers)
                assert status == 204, answer
        for step in (None, "/admin/api/v1/flush", "/admin/api/v1/merge"):
            if step:
                server.post(step)
            for shape in SHAPES:
                check(server, corpora, shape)
    finally:
        server.stop()
