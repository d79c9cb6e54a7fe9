"""A cluster of real processes, harmed in all ways that `faults.py` knows for longer (`make e2e-faults`)."""
import pytest

import hosts
from faults import play

needs_hosts = pytest.mark.skipif(not hosts.available(), reason="network namespaces need root and iproute2")


@pytest.mark.parametrize("scenario", ["every_process_is_killed", "a_disk_is_lost", "an_ingester_pauses", "the_bucket_is_away"])
def test_nothing_is_lost_or_doubled_when(scenario):
    assert play(scenario, seconds=2, apart=False)


@pytest.mark.parametrize("scenario", ["every_process_is_restarted", "the_cluster_grows_and_shrinks"])
def test_no_query_fails_and_nothing_is_lost_when(scenario):
    assert play(scenario, seconds=2, apart=False)


@needs_hosts
@pytest.mark.parametrize("scenario", ["a_zone_is_cut_off", "the_leader_is_not_heard", "clocks_jump"])
def test_nothing_is_lost_or_doubled_on_hosts_when(scenario):
    assert play(scenario, seconds=4)
