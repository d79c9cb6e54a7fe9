"""Every route of Loki's API once, by GET and by POST form, through a real HTTP client."""
import http.client
import json
import urllib.parse

import pytest

from loki import BASE_NS, entry, push, stream
from server import Server

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
RANGE = {"start": BASE_NS - 10**9, "end": BASE_NS + 10**11}
SELECTOR = '{app="shop"}'

# route, parameters, what of the answer is JSON (None: not JSON), a text in it
READS = [
    ("/loki/api/v1/query", {"query": "vector(1)+vector(1)"}, '"2"'),
    ("/loki/api/v1/query_range", {"query": SELECTOR, **RANGE}, "took=7ms"),
    ("/loki/api/v1/labels", RANGE, '"app"'),
    ("/loki/api/v1/label", RANGE, '"app"'),
    ("/loki/api/v1/label/app/values", RANGE, '"shop"'),
    ("/loki/api/v1/series", {"match[]": SELECTOR, **RANGE}, '"app":"shop"'),
    ("/loki/api/v1/index/stats", {"query": SELECTOR, **RANGE}, '"entries":2'),
    ("/loki/api/v1/index/volume", {"query": SELECTOR, **RANGE}, '"resultType":"vector"'),
    ("/loki/api/v1/index/volume_range", {"query": SELECTOR, "step": "1", **RANGE}, '"resultType":"matrix"'),
    ("/loki/api/v1/index/shards", {"query": SELECTOR, "targetBytesPerShard": "1MB", **RANGE}, '"shards":[{'),
    ("/loki/api/v1/patterns", {"query": SELECTOR, **RANGE}, "took="),
    ("/loki/api/v1/detected_labels", RANGE, '"label":"app"'),
    ("/loki/api/v1/detected_fields", {"query": SELECTOR, **RANGE}, '"label":"took","type":"duration","cardinality":2'),
    ("/loki/api/v1/detected_field/took/values", {"query": SELECTOR, **RANGE}, '"values":["7ms","9ms"]'),
    ("/loki/api/v1/format_query", {"query": '{a="b"}|="x"'}, "success"),
    ("/loki/api/v1/context", {"query": SELECTOR, "ts": BASE_NS}, "took=9ms"),
    ("/api/prom/query", {"query": SELECTOR, **RANGE}, '"entries":[{"ts":'),
    ("/api/prom/label", RANGE, '"values":['),
    ("/api/prom/label/app/values", RANGE, '{"values":["shop"]}'),
    ("/api/prom/series", {"match[]": SELECTOR, **RANGE}, '"app":"shop"'),
]
GETS = [
    ("/loki/api/v1/status/buildinfo", '"version"'),
    ("/loki/api/v1/drilldown-limits", '"max_query_series"'),
    ("/loki/api/v1/delete", "[]"),
    ("/prometheus/api/v1/rules", '"groups":[]'),
    ("/prometheus/api/v1/alerts", '"alerts":[]'),
    ("/loki/api/v1/cache/generation_numbers", '""'),
]


@pytest.fixture(scope="module", params=["in heads", "in a segment"])
def server(request, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("routes")).start()
    try:
        for tenant in ("default", "blue"):
            lines = [entry(BASE_NS, f"{tenant} took=7ms"), entry(BASE_NS + 10**10, f"{tenant} took=9ms")]
            status, _, answer = push(server, stream('{app="shop"}', *lines), tenant=tenant)
            assert status == 204, answer
        if request.param == "in a segment":
            server.post("/admin/api/v1/flush")
        yield server
    finally:
        server.stop()


def ask(server, method, path, parameters, headers=None):
    text = urllib.parse.urlencode(parameters)
    if method == "GET":
        return server.request("GET", f"{path}?{text}", headers=headers)
    return server.request("POST", path, text.encode(), {**FORM, **(headers or {})})


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path, parameters, wanted", READS, ids=[read[0] for read in READS])
def test_a_route_answers(server, method, path, parameters, wanted):
    status, headers, body = ask(server, method, path, parameters)
    assert status == 200, body
    assert headers["Content-Type"].lower() == "application/json; charset=utf-8"
    assert body.endswith(b"\n") and json.loads(body) is not None
    assert wanted in body.decode()


@pytest.mark.parametrize("path, wanted", GETS, ids=[get[0] for get in GETS])
def test_a_route_without_parameters_answers(server, path, wanted):
    status, body = server.get(path)
    assert status == 200, body
    assert json.loads(body) is not None and wanted in body.decode()


def test_limits_are_yaml(server):
    status, body = server.get("/config/tenant/v1/limits")
    assert status == 200
    assert "max_query_series: 500\n" in body.decode()


@pytest.mark.parametrize("method, path", [
    ("GET", "/loki/api/v1/rules"), ("GET", "/loki/api/v1/rules/ns"), ("GET", "/loki/api/v1/rules/ns/group"),
    ("GET", "/api/prom/rules"), ("DELETE", "/loki/api/v1/rules/ns/group"), ("GET", "/loki/api/v2alpha/tail"),
])
def test_what_is_not_there_is_not_found(server, method, path):
    assert server.request(method, path)[0] == 404


def test_two_tenants_at_once(server):
    status, _, body = ask(server, "GET", "/loki/api/v1/query_range", {"query": SELECTOR, **RANGE}, {"X-Scope-OrgID": "blue|default"})
    assert status == 200
    streams = json.loads(body)["data"]["result"]
    assert sorted(s["stream"]["__tenant_id__"] for s in streams) == ["blue", "default"]


@pytest.mark.parametrize("tenant, problem", [
    (b"", "tenant ID is empty"), (b"\xc3\xbcn\xc3\xaf", "tenant ID is not visible ASCII"), (b"a/b", "unsupported character"),
])
@pytest.mark.parametrize("path", ["/loki/api/v1/labels", "/loki/api/v1/detected_fields", "/api/prom/label", "/config/tenant/v1/limits"])
def test_a_header_that_names_no_tenant_is_refused(server, tenant, problem, path):
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    connection.putrequest("GET", path)
    connection.putheader("X-Scope-OrgID", tenant)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 400 and problem in answer.read().decode()
    connection.close()


def test_a_request_may_tighten_its_limits(server):
    limits = {"X-Loki-Query-Limits": json.dumps({"maxEntriesLimitPerQuery": 1})}
    query = {"query": SELECTOR, **RANGE}
    status, _, body = ask(server, "GET", "/loki/api/v1/query_range", {**query, "limit": 2}, limits)
    assert status == 400 and b"(2 > 1)" in body
    assert ask(server, "GET", "/loki/api/v1/query_range", {**query, "limit": 1}, limits)[0] == 200
