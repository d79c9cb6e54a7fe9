"""Bad input gets the clear error of its protocol; good records beside it are kept; the process stays up."""
import json
import time
import urllib.parse

import cramjam
import pytest

from loki import JSON, PROTOBUF, PUSH, entry, field, lines, push_body, push_json, stream


def now_ns():
    return str(time.time_ns())


@pytest.fixture(autouse=True)
def still_up(server):
    yield
    assert server.get("/healthz")[0] == 200
    assert server.process.poll() is None


def test_truncated_protobuf_is_refused_with_its_place(server):
    whole = field(1, field(1, b'{app="cut"}') + entry(int(time.time()) * 10**9, b"a line"))
    body = bytes(cramjam.snappy.compress_raw(whole[:-3]))
    status, _, answer = server.request("POST", PUSH, body, PROTOBUF)
    assert status == 400 and b"at byte 1 in streams[0]" in answer, answer


def test_bytes_that_are_not_snappy_are_refused(server):
    status, _, answer = server.request("POST", PUSH, b"\xff\xff\xff\xff\xff nonsense", PROTOBUF)
    assert status == 400 and b"snappy" in answer, answer


def test_a_wrong_content_type_is_refused_with_the_right_ones(server):
    status, _, answer = server.request("POST", PUSH, b"{}", {"Content-Type": "text/csv"})
    assert status in (400, 415) and b"application/json" in answer, answer


def test_a_huge_line_is_refused_and_the_one_beside_it_kept(server):
    at = int(now_ns())
    status, _, answer = push_json(server, {"app": "huge"}, [[str(at), "x" * 300_000], [str(at + 1), "small"]])
    assert status == 400 and (b"256" in answer or b"262144" in answer), answer
    assert lines(server, '{app="huge"}') == ["small"]


def test_ten_thousand_labels_are_refused(server):
    labels = {f"label_{n}": "x" for n in range(10_000)}
    status, _, answer = push_json(server, labels, [[now_ns(), "x"]])
    assert status == 400 and b"10" in answer and b"label" in answer, answer


def test_bytes_that_are_no_text_are_marked_and_the_line_is_kept(server):
    body = push_body(stream('{app="utf8"}', entry(time.time_ns(), b"bad \xff\xfe"), entry(time.time_ns(), "good")))
    status, _, answer = server.request("POST", PUSH, body, PROTOBUF)
    assert status == 204, answer
    assert sorted(lines(server, '{app="utf8"}')) == ["bad \ufffd\ufffd", "good"]


def test_the_year_2100_is_refused_and_1970_is_kept(server):
    status, _, answer = push_json(server, {"app": "years"}, [["4102444800000000000", "2100"], ["1000000000", "1970"]])
    assert status == 400 and b"2100" in answer, answer
    body = urllib.parse.urlencode({"query": '{app="years"}', "start": 0, "end": 10**10, "limit": 10})
    status, answer = server.get("/loki/api/v1/query_range?" + body)
    assert status == 200 and [v[1] for s in json.loads(answer)["data"]["result"] for v in s["values"]] == ["1970"]


@pytest.mark.parametrize("tenant", ["a/b", "..", "x" * 200, "a b"])
def test_a_bad_tenant_is_refused_in_both_directions(server, tenant):
    status, _, answer = push_json(server, {"app": "t"}, [[now_ns(), "x"]], **{"X-Scope-OrgID": tenant})
    assert status in (400, 401) and b"tenant" in answer.lower(), answer
    status, _, answer = server.request("GET", "/loki/api/v1/labels", headers={"X-Scope-OrgID": tenant})
    assert status in (400, 401) and b"tenant" in answer.lower(), answer


@pytest.mark.parametrize("query, place", [
    ('{app="x"', b"line 1, col"),
    ('{app="x"} |= ', b"line 1, col"),
    ('{app="x"} | json |', b"line 1, col"),
    ('sum(rate({app="x"}))', b"line 1, col"),
    ("{}", b"at least one"),
    ('{app=~"("}', b"regexp"),
])
def test_malformed_logql_is_refused_with_its_place(server, query, place):
    parameters = urllib.parse.urlencode({"query": query})
    status, answer = server.get("/loki/api/v1/query_range?" + parameters)
    assert status == 400 and place in answer, answer


def test_deeply_nested_queries_are_refused(server):
    status, answer = server.get("/loki/api/v1/query?" + urllib.parse.urlencode({"query": "(" * 20_000 + "1" + ")" * 20_000}))
    assert status in (400, 414, 431), answer


def test_bad_json_says_where(server):
    status, _, answer = server.request("POST", PUSH, b'{"streams":[{"stream":{"a":"b"},"values":[["1",]]}]}', JSON)
    assert status == 400 and b"column" in answer, answer


def test_otlp_answers_partial_success(server):
    at = now_ns()
    records = [{"timeUnixNano": at, "body": {"stringValue": "kept"}},
               {"timeUnixNano": "4102444800000000000", "body": {"stringValue": "2100"}}]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "partial"}}]}
    body = json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}).encode()
    status, _, answer = server.request("POST", "/otlp/v1/logs", body, JSON)
    assert status == 200, answer
    partial = json.loads(answer)["partialSuccess"]
    assert int(partial["rejectedLogRecords"]) == 1 and partial["errorMessage"], answer
    assert lines(server, '{service_name="partial"}') == ["kept"]


def test_a_decompression_bomb_is_refused(server):
    bomb = bytes(cramjam.gzip.compress(b"\0" * (512 << 20)))
    status, _, answer = server.request("POST", PUSH, bomb, {**JSON, "Content-Encoding": "gzip"})
    assert status in (400, 413), answer
