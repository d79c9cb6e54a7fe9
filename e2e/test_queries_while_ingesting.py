"""Answers while records arrive, and the same answers from memory, from segments, and from both."""
import json
import threading

import pytest

from loki import BASE_NS, BASE_S, ask, entry, number, push, stream
from server import Server

CLIENTS = 3
BATCHES = 40
# A range is open at its start, so it begins before the first line.
END_S = BASE_S + 3000
BATCH_LINES = 25
# Small heads and short slots: flushes and merges run all the while.
BUSY = ["--head-bytes-max", "32KiB", "--slot-duration", "1s", "--merge-interval", "1s", "--merge-inputs-min", "2"]


def batch(client, number):
    first = number * BATCH_LINES
    entries = [entry(BASE_NS + (first + i) * 1000 + client, f"line={first + i} took={(first + i) % 97}ms {'x' * 60}") for i in range(BATCH_LINES)]
    return stream(f'{{job="busy", client="{client}"}}', *entries)


class Client(threading.Thread):
    """Pushes its batches; looks for each as soon as it is acknowledged."""

    def __init__(self, server, number):
        super().__init__()
        self.server, self.number = server, number
        self.sent = self.acknowledged = 0
        self.problems = []

    def run(self):
        try:
            for n in range(BATCHES):
                self.sent += BATCH_LINES
                status, _, answer = push(self.server, batch(self.number, n))
                assert status == 204, answer
                self.acknowledged += BATCH_LINES
                seen = number(self.server, f'sum(count_over_time({{job="busy", client="{self.number}"}}[1h]))', END_S)
                assert seen == self.acknowledged, f"{seen} of {self.acknowledged} acknowledged lines are visible"
        except Exception as problem:  # told by the main thread
            self.problems.append(problem)


def test_counts_grow_and_every_acknowledged_line_is_visible(tmp_path):
    server = Server(tmp_path, BUSY).start()
    try:
        clients = [Client(server, n) for n in range(CLIENTS)]
        for client in clients:
            client.start()
        before = 0
        while any(client.is_alive() for client in clients):
            acknowledged = sum(client.acknowledged for client in clients)
            seen = number(server, 'sum(count_over_time({job="busy"}[1h]))', END_S)
            sent = sum(client.sent for client in clients)
            assert before <= seen and acknowledged <= seen <= sent, (before, acknowledged, seen, sent)
            before = seen
        assert not [client.problems for client in clients if client.problems]
        assert number(server, 'sum(count_over_time({job="busy"}[1h]))', END_S) == CLIENTS * BATCHES * BATCH_LINES
    finally:
        server.stop()


APPS = ["web", "db", "auth"]
RANGE = {"start": BASE_NS, "end": BASE_NS + 3600 * 10**9, "step": 300, "limit": 5000}
LOG_QUERIES = [
    '{job="same"}',
    '{job="same"} |= "needle-77"',
    '{job="same"} |~ "status=5.." != "auth"',
    '{job="same", format="json"} | json | status >= 500 | line_format "{{.app}} {{.status}}"',
    '{job="same", format="logfmt"} | logfmt | duration > 900ms',
    '{job="same"} | request_id=~".*7"',
    '{job="same", format="logfmt"} | pattern "<_> status=<code> <_>" | code="500" | keep code, app',
]
METRIC_QUERIES = [
    'sum by (app) (count_over_time({job="same"}[5m]))',
    'sum(rate({job="same"} |= "status=5" [10m]))',
    'sum by (app, format) (bytes_over_time({job="same"}[5m]))',
    'quantile_over_time(0.9, {job="same", format="logfmt"} | logfmt | unwrap duration(duration) [10m]) by (app)',
    'topk(2, sum by (status) (count_over_time({job="same"} | logfmt | json | __error__="" or status!="" [1h])))',
    'avg_over_time({job="same", format="json"} | json | unwrap bytes [5m]) by (app)',
    'count_over_time({job="same", app="web"} |= "needle" [15m]) / ignoring(x) count_over_time({job="same", app="web"} [15m])',
    'sum by (detected_level) (count_over_time({job="same"}[1h]))',
]


def fixed_line(n):
    """Line `n` of the fixed data: app, form and text follow from the number alone."""
    app, status = APPS[n % 3], [200, 404, 500, 503][n * 7 % 4]
    needle = f" needle-{n}" if n % 11 == 0 else ""
    if n % 2:
        text = json.dumps({"app": app, "status": status, "bytes": n * 37 % 4096, "level": "warn" if n % 5 else "error", "msg": f"handled{needle}"})
    else:
        text = f"level=info app={app} status={status} duration={n * 13 % 1000}ms msg=\"handled{needle}\""
    return app, "json" if n % 2 else "logfmt", text


def push_fixed(server, numbers):
    streams = {}
    for n in numbers:
        app, form, text = fixed_line(n)
        labels = f'{{job="same", app="{app}", format="{form}"}}'
        streams.setdefault(labels, []).append(entry(BASE_NS + n * 10**9, text, {"request_id": f"r{n}"}))
    status, _, answer = push(server, *(stream(labels, *entries) for labels, entries in streams.items()))
    assert status == 204, answer


def answers(server):
    """Every answer in a form in which equal answers are equal: neither series nor streams have an order."""
    found = {}
    for query in LOG_QUERIES + METRIC_QUERIES:
        data = ask(server, "query_range", query=query, **RANGE)["data"]
        assert data["result"], f"{query} finds nothing, so it proves nothing"
        found[query] = sorted(data["result"], key=lambda one: json.dumps(one.get("stream", one.get("metric")), sort_keys=True))
    return found


def differing(first, second):
    return {query: (first[query], second[query]) for query in first if first[query] != second[query]}


@pytest.fixture(scope="module")
def fixed_answers(tmp_path_factory):
    """The fixed data in memory alone, asked."""
    server = Server(tmp_path_factory.mktemp("fixed"), ["--merge-enabled", "false"]).start()
    try:
        push_fixed(server, range(3000))
        yield server, answers(server)
    finally:
        server.stop()


def test_answers_are_the_same_wherever_the_records_are(tmp_path, fixed_answers):
    _, wanted = fixed_answers
    server = Server(tmp_path, ["--merge-enabled", "false"]).start()
    try:
        push_fixed(server, range(0, 3000, 3))
        server.post("/admin/api/v1/flush")
        push_fixed(server, range(2500, 3000))  # copies of records in a segment among them
        server.post("/admin/api/v1/flush")
        push_fixed(server, range(0, 2600))  # later arrivals with earlier times, copies in heads
        assert server.storage()["segments"] == 2
        assert not differing(wanted, answers(server)), "half flushed"
        server.post("/admin/api/v1/flush")
        assert server.storage()["segments"] == 3
        assert not differing(wanted, answers(server)), "after the flush"
        server.post("/admin/api/v1/merge")
        assert server.storage()["segments"] == 1
        assert server.storage()["records"] == 3000, "a merge drops copies"
        assert not differing(wanted, answers(server)), "after the merge"
        server.stop()
        server.start()
        assert not differing(wanted, answers(server)), "after a restart"
    finally:
        server.stop()


def test_answers_are_the_same_after_a_crash(fixed_answers):
    server, wanted = fixed_answers
    server.kill()
    server.start()
    assert not differing(wanted, answers(server))
