"""Loki's wire formats, as its clients write and read them."""
import json
import time
import urllib.parse

import cramjam

PUSH = "/loki/api/v1/push"
JSON = {"Content-Type": "application/json"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}
# Far enough back for every clock, and whole in minutes and hours.
BASE_S = 1_789_992_000
BASE_NS = BASE_S * 10**9


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def entry(at_ns, line, metadata=()):
    """One entry of a stream; `line` and metadata may be text or bytes."""
    seconds, nanos = divmod(at_ns, 10**9)
    at = b"\x08" + varint(seconds) + (b"\x10" + varint(nanos) if nanos else b"")
    pairs = b"".join(field(3, field(1, name.encode()) + field(2, value.encode())) for name, value in dict(metadata).items())
    return field(2, field(1, at) + field(2, line.encode() if isinstance(line, str) else line) + pairs)


def stream(labels, *entries):
    return field(1, field(1, labels.encode() if isinstance(labels, str) else labels) + b"".join(entries))


def push_body(*streams):
    return bytes(cramjam.snappy.compress_raw(b"".join(streams)))


def push(server, *streams, tenant=None, **kw):
    """Status, headers and body of one push of protobuf streams."""
    headers = PROTOBUF | ({"X-Scope-OrgID": tenant} if tenant else {})
    return server.request("POST", PUSH, push_body(*streams), headers, **kw)


def push_json(server, labels, values, **headers):
    body = json.dumps({"streams": [{"stream": labels, "values": values}]}).encode()
    return server.request("POST", PUSH, body, {**JSON, **headers})


def call(server, path, method="GET", headers=None, **parameters):
    """Status and text of `/loki/api/v1/{path}`; parameters in the URL, or in a form for POST."""
    text = urllib.parse.urlencode(parameters, doseq=True)
    headers = dict(headers or {})
    if method == "POST":
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        status, _, body = server.request("POST", f"/loki/api/v1/{path}", text.encode(), headers)
    else:
        status, _, body = server.request("GET", f"/loki/api/v1/{path}?{text}", None, headers)
    return status, body.decode()


def ask(server, path, method="GET", headers=None, **parameters):
    """The answer of a call that must succeed."""
    status, text = call(server, path, method, headers, **parameters)
    assert status == 200, (status, path, parameters, text[:500])
    return json.loads(text)


def lines(server, query, start=None, end=None, limit=1000, headers=None):
    """Every line of the answer, stream by stream; by default those of the last hour."""
    end = time.time_ns() + 10**9 if end is None else end
    start = end - 3600 * 10**9 if start is None else start
    data = ask(server, "query_range", headers=headers, query=query, start=start, end=end, limit=limit)["data"]
    return [value[1] for found in data["result"] for value in found["values"]]


def number(server, query, at_s, headers=None):
    """The one value of an instant query; 0 when it has none."""
    result = ask(server, "query", headers=headers, query=query, time=at_s)["data"]["result"]
    assert len(result) <= 1, result
    return float(result[0]["value"][1]) if result else 0


def wait_for(what, holds, patience=60.0):
    """Polls until `holds()` is truthy and returns that; a deadline, not a guess, ends it."""
    deadline = time.monotonic() + patience
    while True:
        seen = holds()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"gave up waiting for {what}; last seen: {seen!r}"
        time.sleep(0.02)
