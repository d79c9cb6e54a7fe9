"""Deleting log lines: gone from every answer at once, gone from storage soon after, all others untouched."""
import json
import time
import urllib.parse

import pytest

from loki import ask, entry, lines, number, push, stream, wait_for
from server import Server

MINUTE_NS = 60 * 10**9


@pytest.fixture
def start(tmp_path):
    """Starts servers on the test's folder and stops them at its end."""
    started = []

    def start(*options):
        server = Server(tmp_path / "data", options).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


def push_lines(server, app, *texts, at, tenant=None):
    entries = [entry(at + n, text) for n, text in enumerate(texts)]
    status, _, answer = push(server, stream(f'{{app="{app}"}}', *entries), tenant=tenant)
    assert status == 204, answer


def delete(server, method="POST", tenant=None, **parameters):
    """Status and text of a request to the delete API."""
    headers = {"X-Scope-OrgID": tenant} if tenant else {}
    path = "/loki/api/v1/delete?" + urllib.parse.urlencode(parameters)
    status, _, body = server.request(method, path, None, headers)
    return status, body.decode().removesuffix("\n")


def requests(server, tenant=None):
    status, text = delete(server, "GET", tenant)
    assert status == 200, text
    return json.loads(text)


def test_deleted_lines_are_gone_at_once_from_memory_and_segments_and_from_storage_soon(start):
    server = start("--merge-interval", "100ms", "--delete-grace", "0s")
    now = time.time_ns()
    old, seconds = now - 10 * MINUTE_NS, (now - 11 * MINUTE_NS) // 10**9
    push_lines(server, "shop", "order 1 card 4111-1111", "order 2 cash", at=old)
    push_lines(server, "other", "order 3 card 4111-1111", at=old)
    push_lines(server, "shop", "order 4 card 5500-0000", tenant="b", at=old)
    server.post("/admin/api/v1/flush")
    push_lines(server, "shop", "order 5 card 4222-2222", "order 6 cash", at=old + 10**9)

    assert delete(server, query='{app="shop"} |= "card"', start=seconds) == (204, "")
    kept = ["order 2 cash", "order 6 cash"]
    assert sorted(lines(server, '{app="shop"}')) == kept
    assert number(server, 'sum(count_over_time({app=~".+"}[1h]))', now // 10**9) == 3

    [request] = requests(server)
    assert request["query"] == '{app="shop"} |= "card"' and request["start_time"] == seconds
    assert requests(server, tenant="b") == []

    server.post("/admin/api/v1/flush")
    wait_for("the request to be processed", lambda: requests(server)[0]["status"] == "processed")
    assert server.storage()["records"] == 4
    assert sorted(lines(server, '{app="shop"}')) == kept
    assert lines(server, '{app="other"}') == ["order 3 card 4111-1111"]
    assert lines(server, '{app="shop"}', headers={"X-Scope-OrgID": "b"}) == ["order 4 card 5500-0000"]
    assert delete(server, "DELETE", request_id=request["request_id"])[0] == 400

    server.stop()
    server.start()
    assert sorted(lines(server, '{app="shop"}')) == kept
    assert requests(server)[0]["status"] == "processed"


def test_a_request_survives_a_kill_and_can_be_taken_back(start):
    server = start("--merge-enabled", "false")
    now = time.time_ns()
    push_lines(server, "a", "one", "two", at=now - MINUTE_NS)
    assert delete(server, "PUT", query='{app="a"} |= "one"', start=now // 10**9 - 600)[0] == 204
    server.kill()
    server.start()
    assert lines(server, '{app="a"}') == ["two"]
    [request] = requests(server)
    assert request["status"] == "received"
    status, text = delete(server, "DELETE", request_id="ffff")
    assert (status, text) == (404, "could not find delete request with given id")
    assert delete(server, "DELETE", request_id=request["request_id"]) == (204, "")
    assert sorted(lines(server, '{app="a"}')) == ["one", "two"]
    assert requests(server) == []


def test_times_outside_of_the_request_are_untouched(start):
    server = start("--merge-enabled", "false")
    second = time.time_ns() // 10**9 - 300
    for offset in range(5):
        push_lines(server, "a", f"at {offset}", at=(second + offset) * 10**9)
    delete(server, query='{app="a"}', start=second + 1, end=second + 3)
    for _ in range(2):
        assert sorted(lines(server, '{app="a"}')) == ["at 0", "at 4"]
        server.post("/admin/api/v1/flush")
        server.post("/admin/api/v1/merge")
    assert server.storage()["records"] == 2


def test_expired_lines_are_not_shown_though_they_are_stored(start):
    server = start("--retention", "1h", "--merge-enabled", "false")
    now = time.time_ns()
    push_lines(server, "a", "old", at=now - 90 * MINUTE_NS)
    push_lines(server, "a", "young", at=now - MINUTE_NS)
    for _ in ("in memory", "in a segment"):
        assert lines(server, '{app="a"}', start=now - 300 * MINUTE_NS) == ["young"]
        assert number(server, 'count_over_time({app="a"}[5h])', now // 10**9) == 1
        stats = ask(server, "index/stats", query='{app="a"}', start=now - 300 * MINUTE_NS)
        assert stats["entries"] == 1
        server.post("/admin/api/v1/flush")
    assert server.storage()["records"] == 2
