"""Answers as Parquet, read by DuckDB."""
import time
import urllib.parse

import duckdb
import pytest

from loki import entry, push, stream
from server import Server

KIND = "application/vnd.apache.parquet"
SECOND = 10**9


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("parquet")).start()
    yield server
    server.stop()


def call(server, path, headers, **params):
    return server.request("GET", f"{path}?{urllib.parse.urlencode(params)}", headers=headers)


def file(server, path, folder, headers=None, **params):
    status, answered, body = call(server, path, {"Accept": KIND, **(headers or {})}, **params)
    assert (status, answered["Content-Type"]) == (200, KIND), body
    name = folder / "answer.parquet"
    name.write_bytes(body)
    return duckdb.read_parquet(str(name))


def test_lines_and_numbers_can_be_read(server, tmp_path):
    at = time.time_ns() // SECOND * SECOND - 30 * SECOND
    entries = [entry(at + 7, "first é", {"trace": "t1"}), entry(at + SECOND, "second")]
    status, _, answer = push(server, stream('{app="pq"}', *entries))
    assert status == 204, answer
    span = {"start": at, "end": at + 10 * SECOND}
    table = file(server, "/loki/api/v1/query_range", tmp_path, query='{app="pq"}', direction="forward", **span)
    types = dict(zip(table.columns, map(str, table.types)))
    assert types["labels"] == "MAP(VARCHAR, VARCHAR)" and types["line"] == "VARCHAR"
    rows = table.order("timestamp").project("epoch_ns(timestamp), labels, line").fetchall()
    own = {"app": "pq", "service_name": "pq", "detected_level": "unknown"}
    assert rows == [(at + 7, {**own, "trace": "t1"}, "first é"), (at + SECOND, own, "second")]

    index = file(
        server, "/loki/api/v1/query_range", tmp_path, query='{app="pq"}', **span,
        headers={"X-Loki-Response-Encoding-Flags": "categorize-labels"},
    )
    assert index.project("labels").fetchall() == [({"app": "pq", "service_name": "pq"},)] * 2

    count = 'sum by (app) (count_over_time({app="pq"}[10s]))'
    matrix = file(server, "/loki/api/v1/query_range", tmp_path, query=count, step="5s", **span)
    assert str(matrix.types[matrix.columns.index("value")]) == "DOUBLE"
    rows = matrix.order("timestamp").project("epoch_ms(timestamp), labels, value").fetchall()
    want = [(5, 2.0), (10, 2.0)]
    assert rows[-2:] == [((at + s * SECOND) // 10**6, {"app": "pq"}, value) for s, value in want]

    vector = file(server, "/loki/api/v1/query", tmp_path, query="1 + 1", time=at)
    assert vector.project("epoch_ms(timestamp), labels, value").fetchall() == [(at // 10**6, {}, 2.0)]

    volume = file(server, "/loki/api/v1/index/volume", tmp_path, query='{app="pq"}', **span)
    assert volume.project("labels").fetchall() == [({"app": "pq"},)]

    nothing = file(server, "/loki/api/v1/query_range", tmp_path, query='{app="none"}', **span)
    assert nothing.columns == ["timestamp", "labels", "line"] and nothing.fetchall() == []


def test_only_those_who_take_nothing_else_get_it(server):
    for accept in [f"{KIND}, application/json", "*/*"]:
        _, headers, _ = call(server, "/loki/api/v1/query", {"Accept": accept}, query="1")
        assert headers["Content-Type"].startswith("application/json")


def test_what_has_no_columns_is_refused(server):
    status, _, body = call(server, "/loki/api/v1/labels", {"Accept": KIND})
    assert (status, body) == (400, b"request does not support Parquet responses")
    status, _, body = call(server, "/loki/api/v1/query", {"Accept": KIND}, query="sum(")
    assert status == 400 and body.startswith(b"parse error")
