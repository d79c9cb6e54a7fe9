"""Queries that several queriers do together, of which some are killed or paused meanwhile."""
import json
import signal
import tempfile
import threading
import time
import urllib.parse

import pytest

from cluster import Cluster, wait_until

HOURS = 6
LINES = 300  # of each hour, one in each stream in turn
APPS = [f"app-{number}" for number in range(6)]
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def stored():
    """A cluster with some hours of stored records, and when the last hour ends."""
    with tempfile.TemporaryDirectory(prefix="pharos-e2e-") as folder:
        # Whatever is stored is worth spreading.
        options = ["--query-spread-bytes", "1", "--shards", "2"]
        cluster = Cluster(folder, ingesters=3, distributors=1, queriers=3, options=options)
        try:
            cluster.start()
            end = int(time.time()) // 60 * 60 * SECOND
            for hour in range(HOURS):
                push(cluster, end - (HOURS - hour) * 3600 * SECOND, hour)
                cluster.flush()
            yield cluster, end
        finally:
            cluster.stop()


def push(cluster, start, hour):
    streams = []
    for at, app in enumerate(APPS):
        lines = range(at, LINES, len(APPS))
        values = [[str(start + line * 10 * SECOND), f"hour={hour} line={line}"] for line in lines]
        streams.append({"stream": {"app": app}, "values": values})
    body = json.dumps({"streams": streams}).encode()
    status, _, answer = cluster.request("POST", "/loki/api/v1/push", body, {"Content-Type": "application/json"})
    assert status == 204, answer


def ask(querier, path, timeout=60, **params):
    status, body = querier.get(f"/loki/api/v1/{path}?{urllib.parse.urlencode(params)}", timeout=timeout)
    assert status == 200, (status, body[:500])
    return json.loads(body)["data"]["result"]


def counts(querier, end):
    """Lines of each stream, by the query that a dashboard would make of it."""
    query = f"sum by (app) (count_over_time({{app=~\"app-.*\"}} | logfmt | line >= 0 [{HOURS + 1}h]))"
    found = ask(querier, "query", query=query, time=end)
    return {series["metric"]["app"]: int(series["value"][1]) for series in found}


EXPECTED = {app: HOURS * LINES // len(APPS) for app in APPS}


def lines(querier, end):
    """The oldest lines of three hours, with their times."""
    start = end - HOURS * 3600 * SECOND
    found = ask(querier, "query_range", query='{app=~".+"}', start=start, end=end, limit=3 * LINES, direction="forward")
    values = [value for stream in found for value in stream["values"]]
    return [line for _, line in sorted((int(at), line) for at, line in values)]


EXPECTED_LINES = [f"hour={hour} line={line}" for hour in range(3) for line in range(LINES)]


def slices(querier, done):
    _, body = querier.get("/metrics")
    wanted = f'pharos_querier_slices_total{{done="{done}"}}'
    values = [line.rsplit(" ", 1)[1] for line in body.decode().splitlines() if line.startswith(wanted)]
    return float(values[0]) if values else 0.0


def test_every_querier_answers_with_the_help_of_the_others(stored):
    cluster, end = stored
    for querier in cluster.queriers:
        assert counts(querier, end) == EXPECTED
        assert lines(querier, end) == EXPECTED_LINES
        # On a slow machine all shares may be late at times; they are read here then.
        wait_until(lambda: counts(querier, end) == EXPECTED and slices(querier, "there") > 0, f"help for {querier.name}")
        assert slices(querier, "failed") == 0, querier.name


def test_no_query_is_wrong_and_none_fails_while_queriers_are_killed_and_paused(stored):
    cluster, end = stored
    asked, killed, paused = cluster.queriers
    found, over = [], threading.Event()

    def go_on_asking():
        while not over.is_set():
            try:
                found.append((counts(asked, end) == EXPECTED, lines(asked, end) == EXPECTED_LINES))
            except Exception as error:  # whatever it is, it is what the client got
                found.append(error)

    client = threading.Thread(target=go_on_asking)
    client.start()
    try:
        wait_for(found, 3)
        killed.kill()
        wait_for(found, 5)
        paused.process.send_signal(signal.SIGSTOP)
        wait_for(found, 5)
        killed.start()
        wait_for(found, 3)
        paused.process.send_signal(signal.SIGCONT)
        wait_for(found, 3)
    finally:
        paused.process.send_signal(signal.SIGCONT)
        over.set()
        client.join()
    assert set(found) == {(True, True)}, [each for each in found if each != (True, True)]
    assert slices(asked, "failed") + slices(asked, "slow") > 0
    # Those that are back are asked again.
    before = slices(asked, "there")
    wait_until(lambda: counts(asked, end) == EXPECTED and slices(asked, "there") > before, "help", patience=90)


def wait_for(found, more):
    """Until so many more queries were answered."""
    goal = len(found) + more
    wait_until(lambda: len(found) >= goal, "answers")


def test_a_querier_that_is_new_helps_at_once(stored):
    cluster, end = stored
    new = cluster.add("querier", "a")
    new.start()
    try:
        assert counts(new, end) == EXPECTED
        asked = cluster.queriers[0]

        def new_one_helps():
            assert counts(asked, end) == EXPECTED
            _, body = new.get("/metrics")
            done = [line for line in body.decode().splitlines() if line.startswith("pharos_querier_shares_total")]
            return float(done[0].rsplit(" ", 1)[1]) > 0

        wait_until(new_one_helps, "a share for the new querier")
    finally:
        new.stop()
