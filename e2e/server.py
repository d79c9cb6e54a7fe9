"""A Pharos process for tests and benchmarks: free ports, own data folder, stopped by its own id."""
import json
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request


def candidate_ports():
    """Ports from 10000 up to the range from which the system numbers outgoing connections, from a random one on,
    each once. A port of that range could be taken by any connection while its server is not up yet or restarts."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as numbers:
        first_of_connections = int(numbers.read().split()[0])
    ports = range(10_000, max(first_of_connections, 20_000))
    start = random.randrange(len(ports))
    yield from ports[start:]
    yield from ports[:start]


CANDIDATES = candidate_ports()


def free_port():
    """A loopback port at which nobody listens; never the same one twice."""
    for port in CANDIDATES:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue  # somebody else's
    raise RuntimeError("no free port is left")


class Server:
    """Starts `$PHAROS_BIN serve` on three free loopback ports; the ports stay over restarts."""

    READY = "/ready"

    def __init__(self, data_dir, options=(), log=None, env=None, host="127.0.0.1"):
        self.binary = os.environ.get("PHAROS_BIN", "target/release/pharos")
        self.data_dir = str(data_dir)
        self.options = list(options)
        self.log = log
        self.env = {**os.environ, **(env or {})}
        self.host = host
        self.http_port, self.grpc_port, self.otlp_port = free_port(), free_port(), free_port()
        self.url = f"http://{host}:{self.http_port}"
        self.process = None

    def command(self):
        return [
            self.binary, "serve", "--data-dir", self.data_dir,
            "--http-addr", f"{self.host}:{self.http_port}",
            "--otlp-grpc-addr", f"{self.host}:{self.grpc_port}",
            "--otlp-http-addr", f"{self.host}:{self.otlp_port}",
            *self.options,
        ]

    def launch(self):
        """Starts the process and does not wait for it."""
        command = [str(part) for part in self.command()]
        self.process = subprocess.Popen(command, stdout=self.log or subprocess.DEVNULL, stderr=self.log, env=self.env)
        return self

    def start(self, patience=60.0):
        return self.launch().ready(patience)

    def ready(self, patience=60.0):
        """Waits until it takes part in everything that it is there for."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}: {self.process.args}")
            try:
                if self.get(self.READY)[0] == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.02)
        raise RuntimeError("the server did not get ready")

    @property
    def pid(self):
        return self.process.pid

    def stop(self, patience=60.0):
        """Graceful: SIGTERM, then wait."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(patience)

    def kill(self):
        """As a power cut for the process: SIGKILL."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def request(self, method, path, body=None, headers=None, timeout=300):
        """Status, headers (by name in any case) and body; an error status is an answer like any other."""
        request = urllib.request.Request(self.url + path, data=body, headers=headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def get(self, path, **kw):
        status, _, body = self.request("GET", path, **kw)
        return status, body

    def post(self, path, body=b"", **kw):
        status, _, answer = self.request("POST", path, body=body, **kw)
        if status >= 300:
            raise RuntimeError(f"POST {path}: {status} {answer[:500]!r}")
        return answer

    def storage(self):
        status, body = self.get("/admin/api/v1/storage")
        assert status == 200, body
        return json.loads(body)

    def cpu_seconds(self):
        fields = open(f"/proc/{self.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_memory_mb(self):
        for line in open(f"/proc/{self.pid}/status"):
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0.0
