"""The OpenTelemetry Python SDK sends logs; they are found again by LogQL."""
import json
import logging
import time
import urllib.parse

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource


def send(exporter, service):
    resource = Resource.create({"service.name": service, "k8s.namespace.name": "shop", "host.arch": "amd64"})
    provider = LoggerProvider(resource=resource)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = logging.getLogger(f"e2e.{service}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(LoggingHandler(logger_provider=provider))
    logger.error("payment %s declined", 4711, extra={"order.id": 42})
    logger.info("done")
    assert provider.force_flush()
    provider.shutdown()


def entries(server, query):
    parameters = urllib.parse.urlencode({"query": query, "start": int((time.time() - 3600) * 1e9), "limit": 100})
    status, body = server.get("/loki/api/v1/query_range?" + parameters)
    assert status == 200, body
    return [(stream["stream"], line) for stream in json.loads(body)["data"]["result"] for _, line in stream["values"]]


def check(server, service):
    found = entries(server, f'{{service_name="{service}", k8s_namespace_name="shop"}}')
    assert sorted(line for _, line in found) == ["done", "payment 4711 declined"]
    labels, _ = next(entry for entry in found if entry[1] != "done")
    assert labels["severity_text"] == "ERROR"
    assert labels["severity_number"] == str(SeverityNumber.ERROR.value)
    assert labels["host_arch"] == "amd64"
    assert labels["order_id"] == "42"
    assert labels["detected_level"] == "error"
    assert len(entries(server, f'{{service_name="{service}"}} | severity_number > 10')) == 1


def test_grpc(server):
    send(GrpcExporter(endpoint=f"http://127.0.0.1:{server.grpc_port}", insecure=True), "grpc")
    check(server, "grpc")


def test_http_protobuf_with_gzip(server):
    endpoint = f"http://127.0.0.1:{server.otlp_port}/v1/logs"
    send(HttpExporter(endpoint=endpoint, compression=Compression.Gzip), "http")
    check(server, "http")


def test_http_protobuf_on_the_main_port(server):
    send(HttpExporter(endpoint=f"{server.url}/otlp/v1/logs"), "main")
    check(server, "main")
