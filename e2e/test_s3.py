"""Segments on an S3-speaking server on loopback, which goes away and comes back."""
import pytest

from loki import BASE_NS, BASE_S, call, entry, lines, number, push, stream, wait_for
from s3 import PREFIX, S3
from server import Server

COUNT = 'sum(count_over_time({job="s3"}[1h]))'
END_S = BASE_S + 3000
RANGE = {"start": BASE_NS, "end": END_S * 10**9}


@pytest.fixture
def s3():
    service = S3()
    yield service
    service.stop()


def push_lines(server, first, count=100):
    entries = [entry(BASE_NS + n * 10**9, f"line {n} of the bucket") for n in range(first, first + count)]
    status, _, answer = push(server, stream('{job="s3"}', *entries))
    assert status == 204, answer


def test_segments_live_in_the_bucket(tmp_path, s3):
    server = Server(tmp_path, [*s3.options(), "--merge-enabled", "false"]).start()
    try:
        for first in (1, 101, 201):
            push_lines(server, first)
            server.post("/admin/api/v1/flush")
        assert server.storage()["segments"] == len(s3.keys()) == 3
        assert all(key.startswith(f"{PREFIX}/") for key in s3.keys()), s3.keys()
        assert not list(tmp_path.glob("**/*.seg")), "no segment on the local disk"
        assert number(server, COUNT, END_S) == 300
        server.post("/admin/api/v1/merge")
        assert server.storage()["segments"] == 1
        assert number(server, COUNT, END_S) == 300
        assert lines(server, '{job="s3"} |= "line 250 "', **RANGE) == ["line 250 of the bucket"]
        server.stop()
        server.start()
        assert number(server, COUNT, END_S) == 300
        assert lines(server, '{job="s3"} |= "line 42 "', **RANGE) == ["line 42 of the bucket"]
    finally:
        server.stop()


def test_an_outage_fails_queries_of_what_is_stored_and_loses_nothing(tmp_path, s3):
    server = Server(tmp_path, [*s3.options(), "--merge-enabled", "false", "--segment-cache-bytes", "0"]).start()
    try:
        push_lines(server, 1)
        server.post("/admin/api/v1/flush")
        s3.stop()
        push_lines(server, 101)
        status, text = call(server, "query_range", query='{job="s3"} |= "line 42 "', **RANGE)
        assert status == 503 and "logs/" in text, (status, text)
        push_lines(server, 201)
        s3.start()
        wait_for("a flush after the outage", lambda: server.request("POST", "/admin/api/v1/flush", b"")[0] == 204, patience=60)
        assert server.storage()["records"] == 300
        assert number(server, COUNT, END_S) == 300
    finally:
        server.stop()


def test_a_restart_during_an_outage_loses_nothing(tmp_path, s3):
    server = Server(tmp_path, s3.options()).start()
    try:
        push_lines(server, 1)
        s3.stop()
        server.stop()
        assert server.process.returncode == 1, "not everything was flushed, and that is told"
        server.start()
        push_lines(server, 101)
        assert number(server, COUNT, END_S) == 200, "all of it is still in memory"
        s3.start()
        wait_for("a flush after the outage", lambda: server.request("POST", "/admin/api/v1/flush", b"")[0] == 204, patience=60)
        assert server.storage()["records"] == 200 and s3.keys()
    finally:
        server.stop()
