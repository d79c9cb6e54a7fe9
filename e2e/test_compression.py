"""Bodies as clients and collectors compress them."""
import json
import time

import cramjam
import pytest

from loki import JSON, lines
from server import Server

WAYS = {
    "gzip": cramjam.gzip.compress,
    "zstd": cramjam.zstd.compress,
    "snappy": cramjam.snappy.compress_raw,
    "x-snappy-framed": cramjam.snappy.compress,
    "deflate": cramjam.deflate.compress,
    "zlib": cramjam.zlib.compress,
    "lz4": cramjam.lz4.compress,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    data = tmp_path_factory.mktemp("compression")
    server = Server(data, ["--decompressed-bytes-max", "1MB"]).start()
    yield server
    server.stop()


def otlp(text):
    record = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": text}}
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).encode()


def send(server, way, body):
    headers = {**JSON, "Content-Encoding": way}
    return server.request("POST", "/otlp/v1/logs", bytes(WAYS[way](body)), headers)[0]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_compression_is_taken_and_none_is_a_bomb(server, way):
    text = f"compressed as {way}"
    assert send(server, way, otlp(text)) == 204
    assert lines(server, f'{{service_name=~".+"}} |= "{text}"') == [text]
    assert send(server, way, otlp("x" * 20_000_000)) == 413
    headers = {**JSON, "Content-Encoding": way}
    assert server.request("POST", "/otlp/v1/logs", b"\xff\xff damaged \xff", headers)[0] == 400
