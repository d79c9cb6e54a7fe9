"""The process' own traces arrive at an OTLP collector, which is this test."""
from concurrent import futures

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services

from loki import BASE_NS, ask, entry, push, stream
from server import Server, free_port

QUERY = '{job="traced"} |= "line"'


class Collector(services.TraceServiceServicer):
    def __init__(self):
        self.requests = []
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
        services.add_TraceServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def Export(self, request, context):
        self.requests.append(request)
        return messages.ExportTraceServiceResponse()

    def resources(self):
        return [found.resource for request in self.requests for found in request.resource_spans]

    def spans(self):
        return [span for request in self.requests for found in request.resource_spans
                for scope in found.scope_spans for span in scope.spans]


def attributes(of):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in of.attributes}


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """What a push, a query, a flush and a merge have left at the collector once the process has stopped."""
    collector = Collector()
    options = ["--otlp-traces-endpoint", f"http://127.0.0.1:{collector.port}", "--merge-enabled", "false"]
    server = Server(tmp_path_factory.mktemp("traced"), options).start()
    try:
        for n in range(2):
            status, _, answer = push(server, stream('{job="traced"}', entry(BASE_NS + n, f"line {n}")), tenant="acme")
            assert status == 204, answer
            ask(server, "query_range", headers={"X-Scope-OrgID": "acme"}, query=QUERY, start=BASE_NS, end=BASE_NS + 10)
            server.post("/admin/api/v1/flush")
        server.post("/admin/api/v1/merge")
        server.stop()  # sends what is buffered
        yield collector
    finally:
        server.stop()
        collector.server.stop(None)


def named(collector, name):
    found = [span for span in collector.spans() if span.name == name]
    assert found, f"no span {name} among {sorted({span.name for span in collector.spans()})}"
    return found


def test_spans_name_the_service(collected):
    assert all(attributes(resource)["service.name"] == "pharos" for resource in collected.resources())
    assert all(span.end_time_unix_nano >= span.start_time_unix_nano > 0 for span in collected.spans())


def test_a_push_says_whose_it_is_and_reaches_the_ingester(collected):
    pushes = named(collected, "push")
    assert len(pushes) == 2
    about = attributes(pushes[0])
    assert (about["tenant"], about["protocol"]) == ("acme", "loki_protobuf")
    assert about["body_bytes"] > 0
    parents = {span.span_id: span.trace_id for span in pushes}
    ingests = named(collected, "ingest")
    assert len(ingests) == 2
    assert all(parents[span.parent_span_id] == span.trace_id for span in ingests)


def test_a_query_says_what_was_asked_and_how_far_it_went(collected):
    queries = named(collected, "query")
    assert len(queries) == 2
    about = attributes(queries[0])
    assert (about["query"], about["start"], about["end"]) == (QUERY, BASE_NS, BASE_NS + 10)
    traces = {span.trace_id for span in queries}
    assert {span.trace_id for span in named(collected, "recent")} == traces


def test_flushes_and_merges_are_traced(collected):
    assert [attributes(span)["batches"] for span in named(collected, "flush")] == [1, 1]
    assert attributes(named(collected, "merge")[0])["inputs"] == 2


def test_no_span_per_record(collected):
    assert len(collected.spans()) < 30


def test_a_collector_that_is_away_holds_nothing_up(tmp_path):
    server = Server(tmp_path, ["--otlp-traces-endpoint", f"http://127.0.0.1:{free_port()}"]).start()
    try:
        status, _, answer = push(server, stream('{job="traced"}', entry(BASE_NS, "line")))
        assert status == 204, answer
        assert ask(server, "query_range", query=QUERY, start=BASE_NS, end=BASE_NS + 10)["data"]["result"]
        server.stop(patience=60)
        assert server.process.returncode == 0
    finally:
        server.kill()
