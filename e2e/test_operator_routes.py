"""Loki's routes for operators."""
import json
import time

import pytest

from loki import entry, push, stream, wait_for
from server import Server


@pytest.fixture
def server(tmp_path):
    log = open(tmp_path / "log", "w+")
    server = Server(
        tmp_path / "data", ["--storage-s3-secret-key", "hush"], log=log, env={"PHAROS_SHARD": "3"}
    ).start()
    yield server
    server.stop()
    log.close()


def logged(server):
    server.log.seek(0)
    return server.log.read()


def push_line(server, text):
    status, _, answer = push(server, stream('{app="ops"}', entry(time.time_ns(), text)))
    assert status == 204, answer


def text(server, method, path, **kw):
    status, _, body = server.request(method, path, **kw)
    return status, body.decode()


def test_config_shows_what_holds_and_no_secret(server):
    status, whole = text(server, "GET", "/config")
    assert status == 200 and "hush" not in whole and 'storage_s3_secret_key: "********"' in whole
    assert "  slot_duration: 2m\n" in whole
    _, diff = text(server, "GET", "/config?mode=diff")
    assert "data_dir" in diff and "slot_duration" not in diff
    _, defaults = text(server, "GET", "/config?mode=defaults")
    assert '  http_addr: "127.0.0.1:3100"\n' in defaults


def test_the_log_level_changes_while_the_process_runs(server):
    assert json.loads(text(server, "GET", "/log_level")[1]) == {"message": "Current log level is info"}
    assert text(server, "POST", "/log_level?log_level=loud")[0] == 400
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    status, answer = text(server, "POST", "/log_level", body=b"log_level=trace", headers=form)
    assert (status, json.loads(answer)) == (200, {"status": "success", "message": "Log level set to trace"})
    assert " DEBUG " not in logged(server)
    # A push that is refused is told at debug.
    json_body = {"Content-Type": "application/json"}
    assert text(server, "POST", "/loki/api/v1/push", body=b"{", headers=json_body)[0] == 400
    wait_for("a record at debug", lambda: " DEBUG " in logged(server))
    assert text(server, "POST", "/log_level?log_level=info,openraft=debug")[0] == 400
    assert text(server, "POST", "/log_level?log_level=info")[0] == 200
    assert json.loads(text(server, "GET", "/log_level")[1]) == {"message": "Current log level is info"}


def test_services_and_rings_tell_of_this_process(server):
    assert "ingester => Running\n" in text(server, "GET", "/services")[1]
    for path in ["/ring", "/distributor/ring"]:
        assert "ACTIVE" in text(server, "GET", path)[1]
        _, ring = text(server, "GET", path, headers={"Accept": "application/json"})
        member, = json.loads(ring)["shards"]
        assert (member["id"], member["state"], member["tokens"]) == ("1", "ACTIVE", [0])
    assert text(server, "POST", "/ring", body=b"")[0] == 400
    assert text(server, "GET", "/memberlist")[0] == 200
    assert text(server, "GET", "/partition-ring")[0] == 404


@pytest.mark.parametrize("path", ["/flush", "/flush/tenant"])
def test_flush_stores_what_is_in_memory(server, path):
    push_line(server, "kept")
    assert server.storage()["records"] == 0
    assert text(server, "POST", path) == (204, "")
    assert server.storage()["records"] == 1


def test_a_process_is_prepared_for_its_end_over_a_restart(server):
    path = "/ingester/prepare_shutdown"
    assert text(server, "GET", path) == (200, "unset")
    assert text(server, "POST", path) == (204, "")
    server.kill()
    server.start()
    assert text(server, "GET", path) == (200, "set")
    assert text(server, "DELETE", path) == (204, "")
    assert text(server, "GET", path) == (200, "unset")


def test_shutdown_stores_everything_and_ends_the_process(server):
    push_line(server, "last words")
    assert text(server, "POST", "/ingester/shutdown?terminate=false")[0] == 400
    assert text(server, "POST", "/ingester/shutdown?flush=perhaps")[0] == 400
    assert text(server, "POST", "/ingester/shutdown?delete_ring_tokens=true") == (204, "")
    assert server.process.wait(60) == 0
    server.start()
    assert server.storage()["records"] == 1


def test_a_variable_that_is_no_option_is_told(server):
    assert "PHAROS_SHARD" in logged(server) and "PHAROS_SHARDS" in logged(server)
