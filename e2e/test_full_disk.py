"""A full disk: writes are refused with 507, what was acknowledged stays, and writing goes on when there is room."""
import json
import os
import shutil
import subprocess
import tempfile
import urllib.parse
from pathlib import Path

import pytest

from server import Server

BASE_NS = 1_790_000_000 * 10**9
SMALL_DISK = """mount -t tmpfs -o size=24m pharos-e2e "$0" && exec "$@" """


def can_mount():
    probe = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "probe", "/mnt"]
    return shutil.which("unshare") and subprocess.run(probe, capture_output=True).returncode == 0


class ServerOnSmallDisk(Server):
    """The process runs in a mount namespace of its own, in which its data folder is a small tmpfs."""

    def start(self, patience=60.0):
        binary = os.path.abspath(self.binary)
        wrapper = Path(self.data_dir).parent / "run.sh"
        wrapper.write_text(f"#!/bin/sh\nexec unshare --map-root-user --mount sh -c '{SMALL_DISK}' {self.data_dir} {binary} \"$@\"\n")
        wrapper.chmod(0o755)
        self.binary = str(wrapper)
        return super().start(patience)


def batch(number):
    values = [[str(BASE_NS + number * 1000 + i), f"{number}:{i} " + os.urandom(400).hex()] for i in range(200)]
    return json.dumps({"streams": [{"stream": {"job": "full"}, "values": values}]}).encode()


def count(server):
    query = urllib.parse.urlencode({"query": 'sum(count_over_time({job="full"}[1h]))', "time": BASE_NS // 10**9 + 1800})
    status, body = server.get("/loki/api/v1/query?" + query)
    assert status == 200, body
    return int(json.loads(body)["data"]["result"][0]["value"][1])


@pytest.mark.skipif(not can_mount(), reason="needs a mount namespace; the simulated disk of the ingester's tests covers the same")
def test_a_full_disk_refuses_writes_and_loses_nothing():
    with tempfile.TemporaryDirectory(prefix="pharos-full-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        server = ServerOnSmallDisk(data).start()
        try:
            acknowledged, refusal = 0, None
            for number in range(400):
                status, headers, answer = server.request("POST", "/loki/api/v1/push", batch(number), {"Content-Type": "application/json"})
                if status != 204:
                    refusal = (status, answer)
                    break
                acknowledged += 200
            assert refusal and refusal[0] == 507, refusal
            assert acknowledged > 0
            assert count(server) == acknowledged
            assert server.get("/healthz")[0] == 200
        finally:
            server.kill()
