"""Live views over real WebSockets: Loki's tail, and /stream with a filter that changes on the open socket."""
import json
import time
import urllib.parse

from websockets.sync.client import connect


def push(server, app, line):
    body = json.dumps({"streams": [{"labels": {"app": app}, "entries": [{"ts": rfc3339(), "line": line}]}]})
    status, _, answer = server.request("POST", "/ingest", body.encode(), {"Content-Type": "application/json"})
    assert status < 300, answer


def rfc3339():
    now = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z"


def socket(server, path, **parameters):
    return connect(f"ws://127.0.0.1:{server.http_port}{path}?{urllib.parse.urlencode(parameters)}")


def receive_line(ws, wanted, patience=60):
    """Reads frames until one holds the wanted line; returns every line seen on the way."""
    seen = []
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        frame = ws.recv(timeout=patience)
        seen.append(frame)
        if wanted in frame:
            return "\n".join(seen)
    raise AssertionError(f"{wanted!r} did not come, but {seen}")


def test_tail_shows_history_and_then_what_arrives(server):
    push(server, "tail", "before")
    with socket(server, "/loki/api/v1/tail", query='{app="tail"} |~ "before|after"') as ws:
        receive_line(ws, "before")
        push(server, "tail", "noise")
        push(server, "tail", "after")
        assert "noise" not in receive_line(ws, "after")


def test_a_client_changes_its_filter_on_the_open_socket(server):
    with socket(server, "/stream", query='{app="one"}') as ws:
        receive_line(ws, "filter")  # nothing of before is shown
        push(server, "one", "first of one")
        receive_line(ws, "first of one")
        ws.send(json.dumps({"type": "filter", "labels": {"app": "two"}}))
        receive_line(ws, "filter")
        push(server, "one", "second of one")
        push(server, "two", "first of two")
        assert "second of one" not in receive_line(ws, "first of two")
