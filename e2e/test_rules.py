"""Rules through their whole life: groups over Loki's routes, alerts at an Alertmanager, recordings at a remote write
endpoint, and another querier that goes on when the one that evaluates is killed."""
import calendar
import http.server
import json
import threading
import time
import urllib.parse

import cramjam
import pytest

from cluster import Cluster, wait_until
from loki import push_json
from server import Server

YAML = {"Content-Type": "application/yaml"}
ACCEPTED = {"status": "success", "data": None, "errorType": "", "error": ""}
RULES = "/loki/api/v1/rules"


class Receiver:
    """An Alertmanager and a remote write endpoint, of which both keep what they are sent."""

    def __init__(self):
        receiver = self
        self.alerts, self.samples, self.failures = [], [], 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(receiver.take(self.path, self.headers, body))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def take(self, path, headers, body):
        if self.failures:
            self.failures -= 1
            return 503
        tenant = headers["X-Scope-OrgID"]
        if path == "/api/v2/alerts":
            self.alerts += [alert | {"tenant": tenant, "received": time.time()} for alert in json.loads(body)]
            return 200
        assert path == "/write" and headers["Content-Encoding"] == "snappy", (path, headers)
        self.samples += [(tenant, *series) for series in series_of(bytes(cramjam.snappy.decompress_raw(body)))]
        return 204

    def of(self, name):
        return [alert for alert in list(self.alerts) if alert["labels"]["alertname"] == name]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def fields(data):
    """Number and content of each field of a protobuf message; fixed 64 bits as bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            length = 8 if key & 7 == 1 else varint()
            yield key >> 3, data[at:at + length]
            at += length


def series_of(message):
    """Names with labels and the milliseconds of the sample."""
    for _, series in fields(message):
        labels, at = {}, None
        for number, content in fields(series):
            pair = dict(fields(content))
            if number == 1:
                labels[pair[1].decode()] = pair.get(2, b"").decode()
            else:
                at = pair[2]
        yield labels, at


def group(name="g", hold="0s", extra="", interval="1s", window="1h"):
    return f"""
name: {name}
interval: {interval}
rules:
- alert: Errors
  expr: sum by (app) (count_over_time({{app="shop"}} |= "error" [{window}])) > 1
  for: {hold}
  labels: {{severity: page}}
  annotations: {{summary: '{{{{ $labels.app }}}} has {{{{ $value }}}} errors'}}
{extra}""".encode()


def post(server, body, namespace="ns", tenant=None):
    headers = YAML | ({"X-Scope-OrgID": tenant} if tenant else {})
    status, _, answer = server.request("POST", f"{RULES}/{namespace}", body, headers, timeout=10)
    return status, answer.decode()


def errors(server, count=2):
    now = time.time_ns()
    values = [[str(now + at), f"error {at}"] for at in range(count)]
    status, _, answer = push_json(server, {"app": "shop"}, values)
    assert status == 204, answer


def told(server, path="rules", **params):
    status, body = server.get(f"/prometheus/api/v1/{path}?{urllib.parse.urlencode(params)}", timeout=10)
    assert status == 200, body
    return json.loads(body)["data"]


def alert(server):
    """The alert of the only rule, as one querier tells it."""
    groups = told(server)["groups"]
    return next(iter(groups[0]["rules"][0]["alerts"]), None) if groups else None


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def server(tmp_path, receiver):
    server = Server(tmp_path, [
        "--alertmanager-url", receiver.url, "--rules-remote-write-url", f"{receiver.url}/write",
        "--rules-resend-delay", "1s", "--rules-groups-max", "3", "--rules-external-url", "http://grafana/",
    ]).start()
    yield server
    server.stop()


def test_groups_are_kept_listed_and_removed_for_each_tenant(server):
    status, body = server.get(RULES)
    assert (status, body) == (404, b"no rule groups found\n")
    status, answer = post(server, group())
    assert (status, json.loads(answer)) == (202, ACCEPTED)
    assert post(server, group("h"), "other")[0] == 202
    status, headers, body = server.request("GET", RULES)
    assert status == 200 and headers["Content-Type"] == "application/yaml"
    assert body.startswith(b"ns:\n    - name: g\n      interval: 1s\n") and b"\nother:\n" in body, body
    status, body = server.get("/api/prom/rules/ns/g")
    assert status == 200 and body.startswith(b"name: g\ninterval: 1s\nrules:\n    - alert: Errors\n"), body
    assert server.request("GET", RULES, headers={"X-Scope-OrgID": "blue"})[0] == 404
    # They outlive the process.
    server.kill()
    server.start()
    assert server.get(f"{RULES}/other/h")[0] == 200
    assert server.request("DELETE", f"{RULES}/other/h")[0] == 202
    status, _, body = server.request("DELETE", f"{RULES}/other")
    assert (status, body) == (404, b"group namespace does not exist\n")
    status, body = server.get(f"{RULES}/other/h")
    assert (status, body) == (404, b"group does not exist\n")
    assert server.request("DELETE", f"{RULES}/ns")[0] == 202
    assert server.get(RULES)[0] == 404


@pytest.mark.parametrize("body, reason", [
    (b": : :", "unable to decoded rule group"),
    (b"name: g\ninterval: 60", "unable to decoded rule group"),
    (b"rules: []", "group 0: Groupname must not be empty"),
    (b"name: g\nrules:\n- expr: vector(1)", "one of 'record' or 'alert' must be set"),
    (b"name: g\nrules:\n- {alert: A, record: b, expr: vector(1)}", "only one of 'record' and 'alert' must be set"),
    (b"name: g\nrules:\n- alert: A", "field 'expr' must be set in rule"),
    (b"name: g\nrules:\n- {alert: A, expr: 'sum(rate({a=\"b\"}[1m])'}",
     "could not parse expression for alert 'A' in group 'g': "
     "parse error at line 1, col 22: syntax error: unexpected $end"),
    (b"name: g\nrules:\n- {alert: A, expr: vector(1), labels: {'1': a}}", "invalid label name: 1"),
    (b"name: g\nrules:\n- {alert: A, expr: vector(1), annotations: {a: '{{ nope }}'}}",
     'annotation "a": template: __alert_A:1: function "nope" not defined'),
])
def test_what_is_no_group_is_refused_in_loki_s_words(server, body, reason):
    assert post(server, body) == (400, reason + "\n")


def test_a_tenant_has_so_many_groups_and_no_more(server):
    for name in "abca":
        assert post(server, group(name))[0] == 202
    assert post(server, group("d")) == (400, "per-user rule groups limit (limit: 3 actual: 4) exceeded\n")
    assert post(server, group("d"), tenant="blue")[0] == 202


def test_recordings_need_a_place_to_write_to(tmp_path):
    server = Server(tmp_path).start()
    try:
        status, answer = post(server, b"name: g\nrules:\n- {record: r, expr: vector(1)}")
        assert status == 400 and "rules_remote_write_url" in answer
    finally:
        server.stop()


def test_an_alert_is_pending_then_fires_and_is_resolved(server, receiver):
    receiver.failures = 1
    assert post(server, group(hold="2s"))[0] == 202
    wait_until(lambda: told(server)["groups"][0]["rules"][0]["health"] == "ok", "a first evaluation")
    assert alert(server) is None and not receiver.alerts
    errors(server)
    pending = wait_until(lambda: alert(server), "an alert")
    assert pending["labels"] == {"alertname": "Errors", "app": "shop", "severity": "page"}
    assert pending["annotations"] == {"summary": "shop has 2 errors"} and pending["value"] == "2e+00"
    fired = wait_until(lambda: receiver.of("Errors"), "a firing alert")[0]
    assert fired["labels"] == pending["labels"] and fired["annotations"] == pending["annotations"]
    assert fired["tenant"] == "default" and seconds(fired["endsAt"]) > seconds(fired["startsAt"]), fired
    assert fired["generatorURL"].startswith("http://grafana/explore?left=%7B")
    assert told(server, "alerts")["alerts"][0]["activeAt"] == pending["activeAt"]
    assert told(server, type="record")["groups"] == told(server, rule_name="x")["groups"] == []
    states = lambda: [labels["alertstate"] for _, labels, _ in list(receiver.samples) if labels["__name__"] == "ALERTS"]
    wait_until(lambda: "firing" in states(), "a sample of the firing alert")
    assert states()[0] == "pending", states()
    delete = urllib.parse.urlencode({"query": '{app="shop"}', "start": 1})
    assert server.request("POST", f"/loki/api/v1/delete?{delete}")[0] == 204
    wait_until(lambda: alert(server) is None, "the end of the alert")
    resolved = wait_until(lambda: [a for a in receiver.of("Errors") if has_ended(a)], "a resolved alert")[0]
    assert resolved["startsAt"] == fired["startsAt"]
    series = {labels["__name__"] for _, labels, _ in receiver.samples}
    assert series >= {"ALERTS", "ALERTS_FOR_STATE"}, series


def test_a_process_that_is_killed_goes_on_where_it_was(server, receiver):
    assert post(server, group(hold="1h"))[0] == 202
    errors(server)
    before = wait_until(lambda: alert(server), "a pending alert")
    wait_until(lambda: metric(server, "rule_states_unsaved") == 0, "what is to be remembered in the catalog")
    server.kill()
    server.start()
    after = wait_until(lambda: alert(server), "the alert")
    assert (after["state"], after["activeAt"]) == ("pending", before["activeAt"])
    wait_until(lambda: told(server)["groups"][0]["rules"][0]["health"] == "ok", "an evaluation after the restart")
    assert alert(server)["activeAt"] == before["activeAt"]


def has_ended(alert):
    """Whether it had ended when it was received."""
    return seconds(alert["endsAt"]) <= alert["received"]


def test_recordings_are_written_once_for_each_time(server, receiver):
    rule = b"name: r\ninterval: 1s\nrules:\n- {record: 'a:b', expr: vector(3) + 4, labels: {l: m}}"
    assert post(server, rule, tenant="blue")[0] == 202
    wait_until(lambda: len(receiver.samples) >= 3, "samples")
    written = [sample for sample in receiver.samples if sample[1]["__name__"] == "a:b"]
    assert all(sample[:2] == ("blue", {"__name__": "a:b", "l": "m"}) for sample in written)
    times = [sample[2] for sample in written]
    # Times that are missed on a slow machine are left out.
    gaps = [later - sooner for sooner, later in zip(times, times[1:])]
    assert all(gap > 0 and gap % 1000 == 0 for gap in gaps), times


def test_another_querier_goes_on_and_for_does_not_begin_anew(tmp_path, receiver):
    options = ["--alertmanager-url", receiver.url, "--rules-lease", "2s", "--shards", "2", "--replicas", "1"]
    cluster = Cluster(tmp_path, ingesters=1, distributors=1, queriers=2, options=options)
    try:
        cluster.start()
        assert post(cluster.queriers[0], group(hold="8s"))[0] == 202
        errors(cluster)

        def pending_at_both():
            first, second = [alert(querier) for querier in cluster.queriers]
            return first if first == second and first and first["state"] == "pending" else None

        first = wait_until(pending_at_both, "a pending alert at both")
        evaluator = wait_until(lambda: evaluating(cluster), "somebody who evaluates")
        wait_until(lambda: metric(evaluator, "rule_states_unsaved") == 0, "the alert in the catalog")
        evaluator.kill()
        # The other knows at once what the catalog keeps, and goes on when the lease has run out.
        left = cluster.queriers[0]
        wait_until(lambda: alert(left), "the alert at the other")
        assert alert(left)["activeAt"] == first["activeAt"]
        wait_until(lambda: evaluating(cluster) is left, "another evaluator")
        fired = wait_until(lambda: receiver.of("Errors"), "a firing alert")[0]
        wait_until(lambda: alert(left)["state"] == "firing", "what the Alertmanager knows already")
        assert alert(left)["activeAt"] == first["activeAt"]
        # Alertmanagers are told milliseconds.
        assert seconds(fired["startsAt"]) - seconds(first["activeAt"]) > 7.99, (first, fired)
    finally:
        cluster.stop()


def test_a_querier_that_is_stopped_lets_another_go_on_at_once(tmp_path, receiver):
    options = ["--alertmanager-url", receiver.url, "--rules-lease", "1h", "--shards", "2", "--replicas", "1"]
    cluster = Cluster(tmp_path, ingesters=1, distributors=1, queriers=2, options=options)
    try:
        cluster.start()
        assert post(cluster.queriers[1], group())[0] == 202
        errors(cluster)
        wait_until(lambda: receiver.of("Errors"), "a firing alert")
        evaluating(cluster).stop()
        wait_until(lambda: evaluating(cluster) is cluster.queriers[0], "another evaluator")
        wait_until(lambda: (alert(cluster.queriers[0]) or {}).get("state") == "firing", "the firing alert")
    finally:
        cluster.stop()


def evaluating(cluster):
    """The querier that has groups to evaluate."""
    return next((querier for querier in cluster.queriers if metric(querier, "rule_groups") == 1), None)


def metric(querier, name):
    _, body = querier.get("/metrics", timeout=10)
    (line,) = [line for line in body.decode().splitlines() if line.startswith(f"pharos_querier_{name} ")]
    return float(line.split()[1])


def seconds(text):
    whole = calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
    return whole + float("0" + text[19:].rstrip("Z")) if len(text) > 20 else whole
