"""Every way in that needs no SDK, in every encoding, and the simple ways to ask."""
import gzip
import json
import time
import urllib.parse
import zlib

import cramjam
import pytest

from loki import PROTOBUF, PUSH, ask, entry, lines, push_body, stream

ENCODINGS = {
    "identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress,
    "zstd": lambda body: bytes(cramjam.zstd.compress(body)), "snappy": lambda body: bytes(cramjam.snappy.compress_raw(body)),
}


def now():
    return time.time_ns()


def rfc3339(ns):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ns // 10**9)) + f".{ns % 10**9:09d}Z"


def send(server, path, body, encoding="identity", content_type="application/json"):
    headers = {"Content-Type": content_type} | ({"Content-Encoding": encoding} if encoding != "identity" else {})
    status, _, answer = server.request("POST", path, ENCODINGS[encoding](body), headers)
    assert status in (200, 204), (status, answer)


def otlp_json(service, text):
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    record = {"timeUnixNano": str(now()), "body": {"stringValue": text}, "severityText": "WARN", "attributes": [{"key": "n", "value": {"intValue": "7"}}]}
    return json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}).encode()


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
def test_loki_push_as_json(server, encoding):
    app = f"json-{encoding}"
    body = {"streams": [{"stream": {"app": app}, "values": [[str(now()), "a line", {"trace": "t1"}]]}]}
    send(server, PUSH, json.dumps(body).encode(), encoding)
    assert lines(server, f'{{app="{app}"}} | trace="t1"') == ["a line"]


def test_loki_push_on_its_old_path(server):
    status, _, answer = server.request("POST", "/api/prom/push", push_body(stream('{app="old"}', entry(now(), "a line"))), PROTOBUF)
    assert status == 204, answer
    assert lines(server, '{app="old"}') == ["a line"]


@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
def test_otlp_as_json(server, encoding):
    send(server, "/otlp/v1/logs", otlp_json(f"otlp-{encoding}", "a record"), encoding)
    assert lines(server, f'{{service_name="otlp-{encoding}"}} | n="7" | severity_text="WARN"') == ["a record"]


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_ingest(server, encoding):
    body = {"streams": [{"labels": {"app": f"ingest-{encoding}"}, "entries": [{"ts": rfc3339(now()), "line": "a line"}, {"ts": rfc3339(now()), "line": "another"}]}]}
    send(server, "/ingest", json.dumps(body).encode(), encoding)
    assert sorted(lines(server, f'{{app="ingest-{encoding}"}}')) == ["a line", "another"]


@pytest.mark.parametrize("path", ["/logs", "/api/v1/logs"])
@pytest.mark.parametrize("form", ["one", "batch"])
def test_logs(server, path, form):
    service = f"{form}{path.replace('/', '-')}"
    log = {"timestamp": rfc3339(now()), "level": "error", "message": "payment declined", "service": service, "metadata": {"order": "4711"}}
    send(server, path, json.dumps(log if form == "one" else {"logs": [log, {**log, "message": "again"}]}).encode())
    found = lines(server, f'{{service_name="{service}"}} | order="4711" | detected_level="error"')
    assert sorted(found) == (["payment declined"] if form == "one" else ["again", "payment declined"])


def test_simple_questions(server):
    send(server, "/ingest", json.dumps({"streams": [{"labels": {"app": "simple"}, "entries": [{"ts": rfc3339(now()), "line": "found"}]}]}).encode())
    status, body = server.get("/query?" + urllib.parse.urlencode({"query": '{app="simple"}'}))
    (found,) = json.loads(body)["entries"]
    assert status == 200 and found["line"] == "found" and found["labels"]["app"] == "simple" and found["ts"].endswith("Z"), body
    status, body = server.get("/labels")
    assert status == 200 and "app" in json.loads(body)["labels"], body
    status, body = server.get("/labels/app/values")
    assert status == 200 and "simple" in json.loads(body)["values"], body


def test_a_stream_without_service_gets_one(server):
    send(server, PUSH, json.dumps({"streams": [{"stream": {"thing": "nameless"}, "values": [[str(now()), "x"]]}]}).encode())
    assert ask(server, "label/service_name/values", query='{thing="nameless"}')["data"] == ["unknown_service"]
