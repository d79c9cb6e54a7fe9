"""moto's S3 on an address of ours: what it keeps outlives an outage."""
import itertools
import logging
import threading

import boto3
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from server import free_port

PREFIX = "some/prefix"


class QuietHandler(WSGIRequestHandler):
    """Closes after each answer (HTTP/1.0), so that a stopped server has no connection left."""

    def log(self, *_):
        pass


class S3:
    """moto's S3 over HTTP. What it keeps outlives `stop`, so that a stop is an outage and no loss."""

    buckets = itertools.count(1)

    def __init__(self, host="127.0.0.1"):
        self.host = host
        logging.getLogger("botocore").setLevel(logging.WARNING)
        self.application = DomainDispatcherApplication(create_backend_app)
        self.bucket = f"logs-{next(self.buckets)}"  # moto has one memory for all its servers
        self.port, self.server = free_port(), None
        self.start()
        self.client = boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret",
            config=Config(s3={"addressing_style": "path"}, proxies={}))
        self.client.create_bucket(Bucket=self.bucket)

    def start(self):
        self.server = make_server(self.host, self.port, self.application, threaded=True, request_handler=QuietHandler)
        self.server.daemon_threads = True
        self.url = f"http://{self.host}:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def keys(self):
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def options(self):
        return [
            "--storage-url", f"s3://{self.bucket}/{PREFIX}", "--storage-s3-endpoint", self.url,
            "--storage-s3-access-key", "key", "--storage-s3-secret-key", "secret",
            "--storage-s3-allow-http", "true", "--storage-s3-path-style", "true",
        ]
