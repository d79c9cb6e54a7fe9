"""What Grafana's Loki data source and Logs Drilldown send, and what they need back."""
import json

import pytest

from loki import BASE_NS, BASE_S, ask, call, entry, push, push_json, stream
from server import Server

CATEGORIZE = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}
LINES = 30
MINUTE_NS = 60 * 10**9
RANGE = {"start": BASE_NS, "end": BASE_NS + LINES * MINUTE_NS}


def text_of(n):
    return f'level={"error" if n % 3 == 0 else "info"} status={500 if n % 3 == 0 else 200} took={n}ms path="/cart/{n}"'


@pytest.fixture(scope="module", params=["in heads", "in a segment"])
def server(request, tmp_path_factory):
    """Thirty lines, one a minute, in two streams."""
    server = Server(tmp_path_factory.mktemp("grafana")).start()
    try:
        for pod in ("a", "b"):
            numbers = [n for n in range(LINES) if (n % 2 == 0) == (pod == "a")]
            entries = [entry(BASE_NS + n * MINUTE_NS + n, text_of(n), {"trace_id": f"t{n}"}) for n in numbers]
            status, _, answer = push(server, stream(f'{{service_name="shop", pod="{pod}"}}', *entries))
            assert status == 204, answer
        if request.param == "in a segment":
            server.post("/admin/api/v1/flush")
        yield server
    finally:
        server.stop()


# --- the health check ---

def test_health_check(server):
    data = ask(server, "query", query="vector(1)+vector(1)", time=BASE_NS, step="60000ms", direction="backward", limit=1000)["data"]
    assert data["resultType"] == "vector"
    assert data["result"] == [{"metric": {}, "value": [BASE_S, "2"]}]


def test_buildinfo_names_a_version(server):
    info = ask(server, "status/buildinfo")
    assert int(info["version"].split(".")[0]) >= 3


# --- log queries ---

@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("direction", ["backward", "forward"])
def test_log_queries(server, method, direction):
    asked = {"query": '{service_name="shop"} |= "error"', "step": "2000ms", "limit": 4, "direction": direction, **RANGE}
    data = ask(server, "query_range", method, **asked)["data"]
    assert data["resultType"] == "streams" and "encodingFlags" not in data
    values = sorted(value for found in data["result"] for value in found["values"])
    numbers = [0, 3, 6, 9] if direction == "forward" else [18, 21, 24, 27]
    assert values == [[str(BASE_NS + n * MINUTE_NS + n), text_of(n)] for n in numbers]
    first = data["result"][0]["stream"]
    assert first["service_name"] == "shop" and first["detected_level"] == "error" and first["trace_id"].startswith("t")
    assert data["stats"]["summary"]["totalBytesProcessed"] > 0
    assert data["stats"]["summary"]["totalEntriesReturned"] == 4


def test_label_categories_are_told_apart_when_asked(server):
    data = ask(server, "query_range", headers=CATEGORIZE, query='{service_name="shop", pod="a"} | logfmt | status="500"', limit=100, **RANGE)["data"]
    assert data["encodingFlags"] == ["categorize-labels"]
    for found in data["result"]:
        assert found["stream"] == {"service_name": "shop", "pod": "a"}
        for at, line, categories in found["values"]:
            n = (int(at) - BASE_NS) // MINUTE_NS
            assert line == text_of(n)
            assert categories["structuredMetadata"] == {"trace_id": f"t{n}", "detected_level": "error"}
            assert categories["parsed"] == {"level": "error", "status": "500", "took": f"{n}ms", "path": f"/cart/{n}"}
    assert sum(len(found["values"]) for found in data["result"]) == 5


def test_values_are_triples_even_without_categories(server):
    push_json(server, {"app": "plain"}, [[str(BASE_NS), "no level"]])
    data = ask(server, "query_range", headers=CATEGORIZE, query='{app="plain"} | drop detected_level', limit=10, **RANGE)["data"]
    assert [value for found in data["result"] for value in found["values"]] == [[str(BASE_NS), "no level", {}]]


# --- metric queries ---

@pytest.mark.parametrize("method", ["GET", "POST"])
def test_metric_queries_over_a_range(server, method):
    asked = {"query": 'sum by (pod) (count_over_time({service_name="shop"}[10m]))', "step": "600000ms", "direction": "backward", **RANGE}
    data = ask(server, "query_range", method, **asked)["data"]
    assert data["resultType"] == "matrix"
    found = {series["metric"]["pod"]: series["values"] for series in data["result"]}
    # Line n comes n nanoseconds after its minute, so that those of minutes 10 and 20 are in the next window.
    assert found["a"] == [[BASE_S, "1"], [BASE_S + 600, "4"], [BASE_S + 1200, "5"], [BASE_S + 1800, "5"]]
    assert found["b"] == [[BASE_S + 600, "5"], [BASE_S + 1200, "5"], [BASE_S + 1800, "5"]]


def test_metric_queries_at_one_time(server):
    data = ask(server, "query", query='sum by (detected_level) (count_over_time({service_name="shop"}[1h]))', time=BASE_NS + 3000 * 10**9)["data"]
    assert {sample["metric"]["detected_level"]: sample["value"] for sample in data["result"]} == {
        "error": [BASE_S + 3000, "10"], "info": [BASE_S + 3000, "20"]}


def test_log_volume_histogram(server):
    """What Explore draws above the lines."""
    asked = {"query": 'sum by (level, detected_level) (count_over_time({service_name="shop"}[1m]))', "step": "60000ms", **RANGE}
    result = ask(server, "query_range", headers={"X-Query-Tags": "Source=logvolhist"}, **asked)["data"]["result"]
    assert {series["metric"]["detected_level"] for series in result} == {"error", "info"}
    assert sum(int(value) for series in result for _, value in series["values"]) == LINES


# --- labels and series ---

@pytest.mark.parametrize("method", ["GET", "POST"])
def test_labels_values_and_series(server, method):
    assert {"service_name", "pod"} <= set(ask(server, "labels", method, **RANGE)["data"])
    assert ask(server, "label/pod/values", method, **RANGE)["data"] == ["a", "b"]
    assert ask(server, "label/pod/values", method, query='{service_name="shop", pod!="a"}', **RANGE)["data"] == ["b"]
    answer = ask(server, "series", method, **{"match[]": ['{pod="a"}', '{pod="b"}']}, **RANGE)
    assert answer["status"] == "success"
    assert sorted(answer["data"], key=lambda one: one["pod"]) == [{"service_name": "shop", "pod": pod} for pod in "ab"]


# --- the query builder's hints and Drilldown ---

def test_index_stats_are_bare(server):
    stats = ask(server, "index/stats", query='{service_name="shop"}', **RANGE)
    assert {"streams", "chunks", "entries", "bytes"} <= set(stats) and stats["streams"] == 2
    assert stats["entries"] == LINES
    assert stats["bytes"] >= sum(len(text_of(n)) for n in range(LINES))


def test_index_volume_is_a_vector_of_bytes(server):
    data = ask(server, "index/volume", query='{service_name="shop"}', targetLabels="service_name", limit=10, **RANGE)["data"]
    assert data["resultType"] == "vector"
    (sample,) = data["result"]
    assert sample["metric"] == {"service_name": "shop"} and int(sample["value"][1]) > 0
    by_label = ask(server, "index/volume", query='{service_name="shop"}', aggregateBy="labels", **RANGE)["data"]["result"]
    assert {name for found in by_label for name in found["metric"]} >= {"pod", "service_name"}


def test_index_volume_over_time_is_a_matrix(server):
    data = ask(server, "index/volume_range", query='{service_name="shop"}', targetLabels="pod", step="600000ms", **RANGE)["data"]
    assert data["resultType"] == "matrix"
    assert {series["metric"]["pod"] for series in data["result"]} == {"a", "b"}
    assert all(int(value) >= 0 for series in data["result"] for _, value in series["values"])


def test_detected_labels_and_fields(server):
    labels = ask(server, "detected_labels", query='{service_name="shop"}', **RANGE)["detectedLabels"]
    assert {found["label"]: found["cardinality"] for found in labels}["pod"] == 2
    fields = {found["label"]: found for found in ask(server, "detected_fields", query='{service_name="shop"}', line_limit=1000, **RANGE)["fields"]}
    assert (fields["status"]["type"], fields["status"]["cardinality"], fields["status"]["parsers"]) == ("int", 2, ["logfmt"])
    assert fields["took"]["type"] == "duration" and fields["trace_id"]["parsers"] is None
    values = ask(server, "detected_field/status/values", query='{service_name="shop"}', **RANGE)["values"]
    assert sorted(values) == ["200", "500"]


def test_drilldown_limits(server):
    limits = ask(server, "drilldown-limits")
    assert {"limits", "pattern_ingester_enabled", "version"} <= set(limits)


def test_format_query(server):
    assert ask(server, "format_query", query='{a="b"}|="c"') == {"status": "success", "data": '{a="b"} |= "c"'}
    status, text = call(server, "format_query", query='{a="b"')
    assert status == 400 and json.loads(text)["status"] == "invalid-query"


# --- errors: Grafana shows the whole body ---

@pytest.mark.parametrize("path, parameters, words", [
    ("query", {"query": '{service_name="shop"}'}, "log queries are not supported as an instant query type"),
    ("query_range", {"query": "sum(", **RANGE}, "parse error"),
    ("query_range", {"query": '{a="b"}', "start": 2, "end": 1}, "end timestamp must not be before or equal to start time"),
    ("query_range", {"query": 'rate({a="b"}[1m])', "step": "1ms", **RANGE}, "exceeded maximum resolution of 11,000 points per time series"),
    ("query_range", {"query": '{a="b"}', "direction": "sideways", **RANGE}, "direction"),
    ("query_range", {"query": '{a="b"}', "limit": 100_000, **RANGE}, "max entries limit"),
    ("query_range", {"query": '{a=~".*"}', **RANGE}, "at least one"),
    ("query_range", {"query": '{a="b"}', "start": "soon"}, "start"),
])
def test_errors_are_plain_words(server, path, parameters, words):
    status, text = call(server, path, **parameters)
    assert status == 400 and words in text and not text.startswith("{"), text


def test_a_tail_that_is_no_websocket_is_refused(server):
    assert call(server, "tail", query='{a="b"}')[0] in (400, 426)


def test_an_unknown_route_is_404(server):
    assert call(server, "no_such_route")[0] == 404
