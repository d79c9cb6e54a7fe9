"""What an operator sees: start, stop, metrics, options, limits, retention, tenants."""
import os
import socket
import subprocess
import threading
import time

import pytest

from loki import ask, call, entry, lines, number, push, stream, wait_for
from server import Server

HOUR_NS = 3600 * 10**9


@pytest.fixture
def start(tmp_path):
    """Starts servers on the test's folder and stops them at its end."""
    started = []

    def start(*options, **kw):
        server = Server(tmp_path / "data", options, **kw).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


def push_lines(server, app, *texts, at=None, tenant=None):
    at = at or time.time_ns()
    entries = [entry(at + n, text) for n, text in enumerate(texts)]
    status, _, answer = push(server, stream(f'{{app="{app}"}}', *entries), tenant=tenant)
    assert status == 204, answer


# --- start and stop ---

def test_an_empty_folder_is_ready_soon(start):
    server = start()
    assert server.cpu_seconds() < 2
    assert server.get("/ready") == (200, b"ready\n")
    assert server.get("/healthz")[0] == 200


def test_a_stop_during_pushes_keeps_every_acknowledged_line(start):
    server = start()
    acknowledged, enough = [], threading.Event()

    def client():
        for n in range(100_000):
            try:
                status, _, _ = push(server, stream('{app="stop"}', entry(time.time_ns(), f"line {n}")), timeout=10)
            except OSError:
                return
            if status != 204:
                return
            acknowledged.append(f"line {n}")
            if len(acknowledged) >= 50:
                enough.set()

    pusher = threading.Thread(target=client)
    pusher.start()
    assert enough.wait(60)
    server.stop()
    pusher.join()
    assert server.process.returncode == 0
    server.start()
    assert server.storage()["records"] >= len(acknowledged), "a graceful stop flushes"
    found = set(lines(server, '{app="stop"}', limit=5000))
    assert not set(acknowledged) - found


# --- metrics ---

def samples(server):
    """Every sample of `/metrics`; each must have a TYPE before it."""
    status, headers, body = server.request("GET", "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    found, typed = {}, {}
    for line in body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in ("counter", "gauge", "histogram")
            typed[name] = kind
        elif not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            family = name.split("{")[0]
            bases = [family, *(family.removesuffix(end) for end in ("_bucket", "_sum", "_count"))]
            assert any(base in typed for base in bases), f"{name} has no TYPE"
            found[name] = float(value)
    return found


def test_counters_move(start):
    server = start("--slot-duration", "1h")
    push_lines(server, "counted", "one", "two")
    lines(server, '{app="counted"}')
    before = samples(server)
    push_lines(server, "counted", "three")
    lines(server, '{app="counted"}')
    server.post("/admin/api/v1/flush")

    def moved():
        after = samples(server)
        return {name: sum(value - before.get(key, 0) for key, value in after.items() if key.split("{")[0] == name) for name in WANTED}

    wait_for("the counters", lambda: moved() == WANTED)


WANTED = {
    "pharos_distributor_requests_total": 1,
    "pharos_distributor_records_total": 1,
    "pharos_ingester_wal_batches_total": 1,
    "pharos_ingester_flushes_total": 1,
    "pharos_querier_query_seconds_count": 1,
    "pharos_querier_rows_total": 3,
}


# --- options ---

def entries_max(server):
    """The limit that holds, as the refusal of a larger one tells it."""
    status, text = call(server, "query_range", query='{a="b"}', limit=10**6)
    assert status == 400, text
    return int(text.rsplit("> ", 1)[1].rstrip(")"))


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(start, tmp_path):
    config = tmp_path / "pharos.yaml"
    config.write_text("querier:\n  entries_max: 111\n  query_timeout: 5s\ningester:\n  head_bytes_max: 1MiB\n")
    variable = {"PHAROS_ENTRIES_MAX": "222"}
    for options, env, wanted in [
        ([], {}, 5000),
        (["--config", str(config)], {}, 111),
        (["--config", str(config)], variable, 222),
        (["--config", str(config), "--entries-max", "333"], variable, 333),
        ([], {"PHAROS_CONFIG": str(config)}, 111),
    ]:
        server = start(*options, env=env)
        assert entries_max(server) == wanted, (options, env)
        server.stop()


FREE_ADDRESSES = ["--otlp-grpc-addr", "127.0.0.1:0", "--otlp-http-addr", "127.0.0.1:0"]


def fails(tmp_path, *options, http="127.0.0.1:0"):
    """Exit code and standard error of a start that must fail."""
    binary = os.environ.get("PHAROS_BIN", "target/release/pharos")
    command = [binary, "serve", "--data-dir", str(tmp_path / "unused"), "--http-addr", http, *FREE_ADDRESSES, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "panicked" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def test_a_taken_port_is_told_in_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, text = fails(tmp_path, http=address)
    assert code == 1
    # Where a process may use some of the CPUs only, the allocator says so first.
    told = [line for line in text.splitlines() if not line.startswith("<jemalloc>")]
    assert len(told) == 1 and told[0].startswith(f"pharos: cannot listen on {address}") and "http_addr" in told[0], text


@pytest.mark.parametrize("options, code, words", [
    (["--entries-max", "many"], 2, ["--entries-max", "many"]),
    (["--head-bytes-max", "3 parsecs"], 2, ["--head-bytes-max", "3 parsecs"]),
    (["--no-such-option", "1"], 2, ["--no-such-option"]),
    (["--roles", "querier"], 1, ["ingester", "join"]),
    (["--config", "/no/such/file.yaml"], 1, ["/no/such/file.yaml"]),
    (["--storage-url", "ftp://bucket"], 1, ["ftp://bucket", "s3://"]),
    (["--log-filter", "loud=="], 1, ["log_filter", "loud=="]),
])
def test_a_bad_option_is_told_by_name(tmp_path, options, code, words):
    got, text = fails(tmp_path, *options)
    assert got == code, text
    assert all(word in text for word in words), text


def test_a_misspelt_key_of_the_file_is_told_with_its_place(tmp_path):
    config = tmp_path / "pharos.yaml"
    config.write_text("querier:\n  entires_max: 1\n")
    code, text = fails(tmp_path, "--config", str(config))
    assert code == 1 and "entires_max" in text and "line 2" in text, text


# --- retention ---

def test_retention_drops_old_records_from_storage(start):
    now = time.time_ns()
    server = start("--retention", "1h", "--merge-enabled", "false")
    push_lines(server, "aged", "old", at=now - 3 * HOUR_NS)
    server.post("/admin/api/v1/flush")
    push_lines(server, "aged", "young", at=now)
    server.post("/admin/api/v1/flush")
    server.post("/admin/api/v1/merge")
    assert server.storage()["records"] == 1
    assert lines(server, '{app="aged"}', start=now - 5 * HOUR_NS) == ["young"]


# --- tenants ---

def test_tenants_see_their_own_records_only(start):
    server = start()
    push_lines(server, "shared", "of a", tenant="a")
    push_lines(server, "shared", "of b", tenant="b")
    for _ in ("in heads", "in one segment of both"):
        for tenant in ("a", "b"):
            header = {"X-Scope-OrgID": tenant}
            assert lines(server, '{app="shared"}', headers=header) == [f"of {tenant}"]
            assert ask(server, "label/app/values", headers=header)["data"] == ["shared"]
        assert lines(server, '{app="shared"}') == [], "the default tenant has nothing"
        assert ask(server, "labels").get("data", []) == []
        assert sorted(lines(server, '{app="shared"}', headers={"X-Scope-OrgID": "a|b"})) == ["of a", "of b"]
        server.post("/admin/api/v1/flush")
    assert set(server.storage()["tenants"]) == {"a", "b"}


# --- limits ---

def test_pushes_beyond_the_memory_are_told_to_come_back_and_succeed_then(start):
    server = start("--head-memory-bytes-max", "256KiB", "--head-bytes-max", "128KiB", "--room-wait", "0s")
    pressed, lost = [], []

    def client(client):
        for n in range(40):
            at = time.time_ns()
            body = stream(f'{{app="pressed", client="{client}"}}', *(entry(at + i, f"{client}/{n}/{i} " + "x" * 500) for i in range(100)))
            deadline = time.monotonic() + 30
            while True:
                status, headers, answer = push(server, body)
                if status == 204:
                    break
                if status != 429 or "Retry-After" not in headers or time.monotonic() > deadline:
                    lost.append((status, headers, answer))
                    return
                pressed.append(int(headers["Retry-After"]))
                time.sleep(0.01)

    clients = [threading.Thread(target=client, args=(n,)) for n in range(4)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert not lost, lost[0]
    assert pressed and min(pressed) >= 1, "the limit was never met, so this proves nothing"
    assert number(server, 'sum(count_over_time({app="pressed"}[1h]))', int(time.time()) + 1) == 4 * 40 * 100


def test_a_rate_limit_tells_when_to_come_back(start):
    server = start("--rate-bytes-per-second", "1KiB", "--rate-burst-bytes", "20KiB")
    push_lines(server, "fast", "x" * 15_000)
    status, headers, answer = push(server, stream('{app="fast"}', entry(time.time_ns(), "y" * 15_000)))
    assert status == 429 and b"rate" in answer, answer
    assert int(headers["Retry-After"]) >= 1
    wait_for("room under the rate limit", lambda: push(server, stream('{app="fast"}', entry(time.time_ns(), "y" * 15_000)))[0] == 204, patience=120)
