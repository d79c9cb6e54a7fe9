"""Segments on an S3-speaking server on loopback, which goes away and comes back."""
import itertools
import logging
import threading

import boto3
import pytest
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from loki import BASE_NS, BASE_S, call, entry, lines, number, push, stream, wait_for
from server import Server

PREFIX = "some/prefix"
COUNT = 'sum(count_over_time({job="s3"}[1h]))'
END_S = BASE_S + 3000
RANGE = {"start": BASE_NS, "end": END_S * 10**9}


class QuietHandler(WSGIRequestHandler):
    """Closes after each answer (HTTP/1.0), so that a stopped server has no connection left."""

    def log(self, *_):
        pass


class S3:
    """moto's S3 over HTTP. What it keeps outlives `stop`, so that a stop is an outage and no loss."""

    buckets = itertools.count(1)

    def __init__(self):
        logging.getLogger("botocore").setLevel(logging.WARNING)
        self.application = DomainDispatcherApplication(create_backend_app)
        self.bucket = f"logs-{next(self.buckets)}"  # moto has one memory for all its servers
        self.port, self.server = 0, None
        self.start()
        self.client = boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret",
            config=Config(s3={"addressing_style": "path"}, proxies={}))
        self.client.create_bucket(Bucket=self.bucket)

    def start(self):
        self.server = make_server("127.0.0.1", self.port, self.application, threaded=True, request_handler=QuietHandler)
        self.server.daemon_threads = True
        self.port = self.server.port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def keys(self):
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def options(self):
        return [
            "--storage-url", f"s3://{self.bucket}/{PREFIX}", "--storage-s3-endpoint", self.url,
            "--storage-s3-access-key", "key", "--storage-s3-secret-key", "secret",
            "--storage-s3-allow-http", "true", "--storage-s3-path-style", "true",
        ]


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
