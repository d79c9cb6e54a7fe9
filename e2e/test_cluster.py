"""A cluster of real processes, harmed in all ways that `faults.py` knows for longer (`make e2e-faults`)."""
import json
import os
import shutil
import subprocess

import pytest

import hosts
from cluster import Cluster, Member, wait_until
from crash import BATCH_LINES, body, found_lines
from faults import OPTIONS, play
from server import Server

needs_hosts = pytest.mark.skipif(not hosts.available(), reason="network namespaces need root and iproute2")


@pytest.mark.parametrize("scenario", ["every_process_is_killed", "a_disk_is_lost", "an_ingester_pauses", "the_bucket_is_away"])
def test_nothing_is_lost_or_doubled_when(scenario):
    assert play(scenario, seconds=2, apart=False)


@pytest.mark.parametrize("scenario", ["every_process_is_restarted", "the_cluster_grows_and_shrinks", "shards_are_raised"])
def test_no_query_fails_and_nothing_is_lost_when(scenario):
    assert play(scenario, seconds=2, apart=False)


@needs_hosts
@pytest.mark.parametrize("scenario", ["a_zone_is_cut_off", "the_leader_is_not_heard", "clocks_jump"])
def test_nothing_is_lost_or_doubled_on_hosts_when(scenario):
    assert play(scenario, seconds=4)


def test_queries_fail_after_the_loss_of_a_majority_until_somebody_accepts_that(tmp_path):
    # Of so many shards some are sure to have both lost ingesters among their three owners.
    options = [*OPTIONS[:OPTIONS.index("--shards") + 1], "64", *OPTIONS[OPTIONS.index("--shards") + 2:]]
    cluster = Cluster(tmp_path, ingesters=5, distributors=1, queriers=1, options=options).start()
    try:
        def is_whole():
            ring = cluster.ring()
            active = [member for member in ring["members"] if "ingester" in member["roles"] and member["state"] == "active"]
            return ring if len(active) == 5 and len(ring["voters"]) == 3 and not ring["past_rings"] and not ring.get("next_ring") else None

        ring = wait_until(is_whole, "a whole cluster")
        assert cluster.request("POST", "/loki/api/v1/push", body(0, 0), {"Content-Type": "application/json"})[0] == 204
        voters = {member["address"] for member in ring["members"] if member["voter"]}
        lost = [member for member in cluster.ingesters if member.rpc not in voters]
        for member in lost:
            member.kill()
            shutil.rmtree(member.data_dir)
        for member in lost:
            member.start()  # when it was silent for long enough
        stuck = wait_until(lambda: [past for past in cluster.ring()["past_rings"] if not past["undrained"]], "a ring that nobody can store")
        assert len(stuck[0]["lost"]) == 2, stuck
        with pytest.raises(RuntimeError, match="query: 503"):
            found_lines(cluster.queriers[0])
        assert "--accept-loss" in pharos(cluster, "ring")
        again = "".join(pharos(cluster, "ring", "forget", past["lost"][0]) for past in stuck)
        assert "was off the list already" in again and "--accept-loss" in again, again
        waits = [past["version"] for past in cluster.ring()["past_rings"]]
        assert all(past["version"] in waits for past in stuck), "saying it again accepts nothing"
        with pytest.raises(RuntimeError, match="query: 503"):
            found_lines(cluster.queriers[0])
        said = "".join(pharos(cluster, "ring", "forget", past["lost"][0], "--accept-loss") for past in stuck)
        assert "are lost, and nobody waits for them any more" in said, said
        wait_until(lambda: not cluster.ring()["past_rings"], "no past ring")
        found_lines(cluster.queriers[0])
    finally:
        cluster.stop()


def test_a_process_alone_becomes_the_first_of_many(tmp_path):
    options = ["--storage-url", tmp_path / "bucket", "--slot-duration", "2s"]
    headers = {"Content-Type": "application/json"}
    alone = Server(tmp_path / "first", options).start()
    try:
        assert alone.request("POST", "/loki/api/v1/push", body(0, 0), headers)[0] == 204
        alone.post("/admin/api/v1/flush")
        assert alone.request("POST", "/loki/api/v1/push", body(1, 0), headers)[0] == 204
    finally:
        alone.stop()
    members = [Member(name, tmp_path, "all", zone, options) for name, zone in (("first", "a"), ("second", "b"), ("third", "c"))]
    first = members[0]
    try:
        for member in members:
            member.join = first.rpc
            member.start()

        def ring_of_all():
            ring = json.loads(first.get("/admin/api/v1/ring")[1])
            active = [member for member in ring["members"] if member["state"] == "active"]
            return ring["shards"] == 64 and len(active) == 3 and not ring.get("next_ring") and not ring["past_rings"]

        wait_until(ring_of_all, "64 shards on three ingesters")
        assert members[2].request("POST", "/loki/api/v1/push", body(2, 0), headers)[0] == 204
        for member in members:
            assert sorted(found_lines(member)) == list(range(3 * BATCH_LINES)), member.name
    finally:
        for member in members:
            member.kill()
            member.log.close()


def pharos(cluster, command, *arguments):
    """What a command prints that asks a querier."""
    binary = os.environ.get("PHAROS_BIN", "target/release/pharos")
    words = [binary, command, "--address", cluster.queriers[0].url, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
