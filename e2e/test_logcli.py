"""logcli, the command line client of Loki. It takes minutes to build: `make e2e-logcli` does, `make e2e` skips."""
import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from loki import BASE_NS, entry, push, stream
from server import Server

LOGCLI = os.environ.get("LOGCLI_BIN", str(Path(__file__).parent / ".cache" / "logcli"))
pytestmark = pytest.mark.skipif(not os.access(LOGCLI, os.X_OK), reason="logcli is not built; `make e2e-logcli` builds it with go and runs this")

SELECTOR = '{service_name="shop"}'
RANGE = ["--timezone=UTC", "--from=2026-09-21T12:00:00Z", "--to=2026-09-21T13:00:00Z"]


def text_of(n):
    return f"level=info n={n} took={n}ms"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Ten lines in each of two streams, half of them flushed."""
    server = Server(tmp_path_factory.mktemp("logcli")).start()
    try:
        for pod in ("a", "b"):
            entries = [entry(BASE_NS + n * 10**9, text_of(n), {"trace_id": f"t{n}"}) for n in range(10)]
            status, _, answer = push(server, stream(f'{{service_name="shop", pod="{pod}"}}', *entries))
            assert status == 204, answer
            if pod == "a":
                server.post("/admin/api/v1/flush")
        yield server
    finally:
        server.stop()


def command(server, *arguments):
    return [LOGCLI, f"--addr={server.url}", "--quiet", *arguments]


def logcli(server, *arguments, fails=False):
    done = subprocess.run(command(server, *arguments), capture_output=True, text=True, timeout=60)
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


def test_query_as_json_lines(server):
    out = logcli(server, "query", *RANGE, "--limit=3", "--forward", "--output=jsonl", '{pod="a"}')
    found = [json.loads(line) for line in out.splitlines()]
    assert [one["line"] for one in found] == [text_of(n) for n in range(3)]
    assert found[1]["timestamp"] == "2026-09-21T12:00:01Z"


def test_query_in_batches_shows_each_line_once(server):
    out = logcli(server, "query", *RANGE, "--limit=100", "--batch=3", "--output=raw", '{pod="b"}')
    assert out.splitlines() == [text_of(n) for n in reversed(range(10))]


def test_metric_queries(server):
    (series,) = json.loads(logcli(server, "query", *RANGE, "--step=10m", f"sum(count_over_time({SELECTOR}[10m]))"))
    assert [value for _, value in series["values"]] == ["2", "18"]
    query = f"sum by (pod) (count_over_time({SELECTOR}[1h]))"
    samples = json.loads(logcli(server, "instant-query", "--now=2026-09-21T12:30:00Z", query))
    assert {sample["metric"]["pod"]: sample["value"][1] for sample in samples} == {"a": "10", "b": "10"}


def test_labels_and_series(server):
    assert logcli(server, "labels", *RANGE).split() == ["pod", "service_name"]
    assert logcli(server, "labels", *RANGE, "pod").split() == ["a", "b"]
    assert logcli(server, "series", *RANGE, '{pod="a"}').strip() == '{pod="a", service_name="shop"}'
    analysis = logcli(server, "series", *RANGE, "--analyze-labels", SELECTOR)
    assert "Total Streams:  2" in analysis and "pod           2              2" in analysis


def test_stats_and_volume(server):
    out = logcli(server, "stats", *RANGE, SELECTOR).split()
    assert out[out.index("streams:") + 1] == "2" and out[out.index("entries:") + 1] == "20"
    (volume,) = json.loads(logcli(server, "volume", *RANGE, SELECTOR))
    assert volume["metric"] == {"service_name": "shop"} and int(volume["value"][1]) >= 20 * len(text_of(0))
    (series,) = json.loads(logcli(server, "volume_range", *RANGE, "--step=10m", SELECTOR))
    points = series.get("values") or [series["value"]]  # one step alone is a vector
    assert sum(int(value) for _, value in points) >= 20 * len(text_of(0))


def test_detected_fields(server):
    out = logcli(server, "detected-fields", *RANGE, SELECTOR)
    found = {line.split()[1]: line.split()[3::2] for line in out.splitlines() if line.startswith("label:")}
    assert found["n"] == ["int", "10"] and found["took"] == ["duration", "10"] and found["trace_id"] == ["string", "10"]
    assert logcli(server, "detected-fields", *RANGE, SELECTOR, "took").split() == sorted(f"{n}ms" for n in range(10))


def test_errors_reach_the_person(server):
    assert "parse error at line 1, col 15" in logcli(server, "query", *RANGE, "--retries=0", "{service_name=", fails=True)


def test_tail_shows_lines_as_they_arrive(server):
    tail = subprocess.Popen(command(server, "query", "--tail", "--output=raw", '{app="tailed"}'), stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(30, tail.kill)
    watchdog.start()
    try:
        # A tail shows the last hour first, so that the first line is seen however late the client connects.
        for text in ("first", "second"):
            status, _, answer = push(server, stream('{app="tailed"}', entry(time.time_ns(), text)))
            assert status == 204, answer
            assert tail.stdout.readline().strip() == text
    finally:
        watchdog.cancel()
        tail.kill()
        tail.wait()
