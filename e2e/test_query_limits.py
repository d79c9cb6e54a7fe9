"""What a query may take: time, memory, rows, range, series, a turn; each limit is told in Loki's way."""
import gzip
import http.client
import threading
import urllib.parse

import pytest

from loki import BASE_NS, BASE_S, ask, call, entry, number, push, stream, wait_for
from server import Server

RANGE = {"start": BASE_NS, "end": BASE_NS + 3000 * 10**9}
ALL = '{job="limited"}'
# Makes 35 KB of each of 20,000 lines and looks through them, sixty times: half a minute of work for two cores.
SLOW = " + ".join(f'sum(count_over_time({ALL} | line_format "{{{{repeat {300 + n} __line__}}}}" |~ "[a-z ]+[P-Z]" [1h]))' for n in range(60))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with 20,000 stored lines in 40 streams."""
    folder = tmp_path_factory.mktemp("limits")
    server = Server(folder).start()
    try:
        for pod in range(40):
            entries = [entry(BASE_NS + n * 10**9 + pod, f"line {n} of {pod} " + "word " * 20) for n in range(500)]
            status, _, answer = push(server, stream(f'{{job="limited", pod="{pod}"}}', *entries))
            assert status == 204, answer
    finally:
        server.stop()
    return folder


@pytest.fixture
def start(data):
    started = []

    def start(*options):
        started.append(Server(data, options).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.mark.parametrize("options, query, status, words", ids=["time", "rows", "memory", "series", "length"], argvalues=[
    (["--query-timeout", "1ms"], SLOW, 504, "timed out"),
    (["--query-rows-max", "1000"], f"sum(count_over_time({ALL} |= \"word\" [1h]))", 422, "1000"),
    (["--query-memory-bytes-max", "64KiB"], f"count_over_time({ALL} | regexp \"(?P<n>line [0-9]+)\" [1h])", 422, "memory"),
    (["--series-max", "10"], f"count_over_time({ALL}[1h])", 400, "10"),
    (["--query-length-max", "10m"], ALL, 400, "query time range exceeds the limit"),
])
def test_a_query_beyond_a_limit_is_refused_and_a_small_one_still_answered(start, options, query, status, words):
    server = start(*options)
    got, text = call(server, "query_range", query=query, step=60, limit=100, **RANGE)
    assert (got, words in text) == (status, True), (got, text)
    if "--query-timeout" not in options:
        few = ask(server, "query_range", query='{job="limited", pod="1"} |= "line 3 "', start=BASE_NS, end=BASE_NS + 10 * 10**9, limit=5)
        assert len(few["data"]["result"]) == 1
    assert server.get("/healthz")[0] == 200


def test_a_client_that_leaves_ends_its_query(start):
    server = start("--query-timeout", "1h")
    client = begun(server)
    wait_for("the query's begin", lambda: gauge(server, "running") == 1)
    client.close()
    wait_for("the abandoned query's end", lambda: gauge(server, "running") == 0)


def begun(server):
    """A client that waits for the answer to a slow query until it is closed."""
    client = http.client.HTTPConnection("127.0.0.1", server.http_port)
    client.request("GET", "/loki/api/v1/query_range?" + urllib.parse.urlencode({"query": SLOW, "step": 60, **RANGE}))
    return client


def gauge(server, name):
    (line,) = [line for line in server.get("/metrics")[1].decode().splitlines() if line.startswith(f"pharos_querier_{name} ")]
    return int(line.split()[1])


def test_queries_wait_for_their_turn_and_too_many_are_refused(start):
    server = start("--queries-max", "1", "--queries-waiting-max", "1", "--query-timeout", "1h")
    counts = []

    def second():
        counts.append(number(server, f"sum(count_over_time({ALL}[1h]))", BASE_S + 3000))

    first = begun(server)
    in_line = threading.Thread(target=second)
    wait_for("the first query's turn", lambda: gauge(server, "running") == 1)
    in_line.start()
    wait_for("the second query in line", lambda: gauge(server, "waiting") == 1)
    status, text = call(server, "query", query=f"sum(count_over_time({ALL}[1h]))")
    assert status == 429 and "too many" in text, (status, text)
    first.close()
    in_line.join()
    assert counts == [20_000]


def test_answers_are_compressed_when_asked(start):
    server = start()
    path = "/loki/api/v1/query_range?" + urllib.parse.urlencode({"query": ALL, "limit": 1000, **RANGE})
    plain = server.request("GET", path)[2]
    _, headers, packed = server.request("GET", path, headers={"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip" and len(packed) < len(plain) / 4
    assert len(gzip.decompress(packed)) > len(plain) / 2
