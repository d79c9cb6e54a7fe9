"""A cluster that has lost every disk but the bucket: its catalog is made again of the objects."""
import json
import os
import shutil
import subprocess

import pytest

from cluster import Cluster, wait_until
from crash import BATCH_LINES, Ledger, body, found_lines

OPTIONS = ["--shards", "4", "--slot-duration", "1s", "--merge-enabled", "false"]


@pytest.fixture
def cluster(tmp_path):
    cluster = Cluster(tmp_path, distributors=1, queriers=1, options=OPTIONS).start()
    yield cluster
    cluster.stop()


def push(cluster, ledger, batches):
    for _ in range(batches):
        batch = ledger.take()
        headers = {"Content-Type": "application/json"}
        assert cluster.request("POST", "/loki/api/v1/push", body(batch, 0), headers)[0] == 204
        ledger.acknowledge(batch)


def rebuild(cluster, *flags):
    """Exit code, and what is printed, or said of what went wrong."""
    binary = os.environ.get("PHAROS_BIN", "target/release/pharos")
    command = [binary, "catalog", "rebuild", "--address", cluster.queriers[0].url, *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stderr if done.returncode else done.stdout


def test_the_catalog_can_be_made_again_of_the_objects_alone(cluster):
    ledger = Ledger()
    for _ in range(3):
        push(cluster, ledger, 4)
        cluster.flush()
    cluster.ingesters[0].post("/admin/api/v1/merge")  # what it merged stays beside what it made for a while
    push(cluster, ledger, 4)
    cluster.flush()
    before = cluster.queriers[0].storage()
    for member in cluster.members:
        member.kill()
        shutil.rmtree(member.data_dir)
    cluster.start()
    assert found_lines(cluster.queriers[0]) == []

    code, text = rebuild(cluster)
    assert code == 0 and "nothing was changed" in text, text
    assert found_lines(cluster.queriers[0]) == []
    code, text = rebuild(cluster, "--apply")
    assert code != 0 and "may be at work still" in text, "its objects are seconds old"

    code, text = rebuild(cluster, "--apply", "--force", "--json")
    report = json.loads(text)
    assert code == 0 and report["applied"] and not report["left_out"], text
    assert report["added"] == report["objects"] >= before["segments"]
    found = wait_until(lambda: found_lines(cluster.queriers[0]), "the lines")
    assert len(found) == len(ledger.acknowledged) * BATCH_LINES and set(found) == ledger.lines()

    code, text = rebuild(cluster, "--apply", "--force", "--json")
    assert code == 0 and json.loads(text)["added"] == 0, "a second time changes nothing"
    push(cluster, ledger, 2)
    cluster.flush()
    cluster.ingesters[0].post("/admin/api/v1/merge")
    found = found_lines(cluster.queriers[0])
    assert len(found) == len(set(found)) and set(found) == ledger.lines(), "and it goes on from there"
