"""Processes of a cluster talk over mutual TLS, compressed: the same answers, and nobody else is let in."""
import json
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from cluster import Cluster
from test_queriers import SECOND, ask

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="certificates are made with openssl")


def openssl(folder, *command):
    subprocess.run(["openssl", *map(str, command)], cwd=folder, check=True, capture_output=True)


def authority(folder, name):
    """A new authority; its certificate and key are PEM files."""
    openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE",
            "-keyout", f"{name}.key", "-out", f"{name}.pem")
    return folder / f"{name}.pem"


def certificate(folder, name, issuer):
    """A certificate for the processes on this machine."""
    openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n")
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", issuer, "-CAkey", issuer.with_suffix(".key"),
            "-CAcreateserial", "-days", "2", "-extfile", "san", "-out", f"{name}.pem")
    return folder / f"{name}.pem"


def handshake(member, own=None):
    """Whether the member's port for other processes goes on talking to a client, with or without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if own:
        context.load_cert_chain(own, own.with_suffix(".key"))
    host, port = member.rpc.split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=30) as plain:
            with context.wrap_socket(plain) as secure:
                secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
                return bool(secure.recv(9))
    except (ssl.SSLError, ConnectionError):
        return False


def test_a_cluster_over_mutual_tls_with_compression_answers_and_lets_nobody_else_in(tmp_path):
    ours = authority(tmp_path, "ours")
    own = certificate(tmp_path, "process", ours)
    stranger = certificate(tmp_path, "stranger", authority(tmp_path, "theirs"))
    options = [
        "--rpc-compress", "true", "--rpc-tls-authority", ours, "--rpc-tls-certificate", own,
        "--rpc-tls-key", own.with_suffix(".key"), "--query-spread-bytes", "1", "--shards", "2",
    ]
    cluster = Cluster(tmp_path, ingesters=3, distributors=1, queriers=2, options=options)
    try:
        cluster.start()
        end = int(time.time()) * SECOND
        for hour in range(3):
            start = end - (3 - hour) * 3600 * SECOND
            values = [[str(start + line * SECOND), f"line {line} of {hour} " + "x" * 200] for line in range(200)]
            body = json.dumps({"streams": [{"stream": {"app": "tls"}, "values": values}]}).encode()
            headers = {"Content-Type": "application/json"}
            assert cluster.request("POST", "/loki/api/v1/push", body, headers)[0] == 204
            if hour < 2:
                cluster.flush()
        for querier in cluster.queriers:
            found = ask(querier, "query", query='sum(count_over_time({app="tls"}[4h]))', time=end)
            assert found[0]["value"][1] == "600"
        for member in cluster.members:
            assert handshake(member, own), member.name
            assert not handshake(member), member.name
            assert not handshake(member, stranger), member.name
    finally:
        cluster.stop()
