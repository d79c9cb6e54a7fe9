#!/usr/bin/env python3
"""Breaks a cluster of real processes on hosts of their own while clients push, and checks the ledger.

usage: faults.py [--seconds N] [SCENARIO ...]

Every scenario starts a new cluster (3 ingesters in 3 zones, 2 distributors, 2 queriers), pushes through the
distributors, does its harm for N seconds, heals, and then asks every querier for every line that was
acknowledged: each must be there exactly once, from heads and, after a flush, from segments. Needs root, for
network namespaces and a small disk.
"""
import argparse
import contextlib
import inspect
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cluster import Cluster, clock_library, wait_until
from crash import BASE_NS, CLIENTS, Ledger, client, found_lines
from hosts import Hosts
from s3 import S3

OPTIONS = ["--slot-duration", "2s", "--shards", "6", "--merge-interval", "1s", "--merge-inputs-min", "4"]

DAY = 86400

# Between the batches of a client, seconds: what was pushed is read back again and again.
PAUSE = 0.1


class Run:
    """One cluster under load."""

    def __init__(self, hosts, folder, seconds, storage=None, options=()):
        self.hosts, self.folder, self.seconds = hosts, pathlib.Path(folder), seconds
        self.cluster = Cluster(folder, hosts=hosts, storage=storage, options=[*OPTIONS, *options])
        self.ledger, self.stop = Ledger(), threading.Event()
        self.clients = [
            threading.Thread(target=client, args=(self.cluster, self.ledger, number, self.stop, PAUSE)) for number in range(CLIENTS)]
        self.failed_queries = []

    def begin(self):
        self.cluster.start()
        wait_until(self.is_whole, "a whole cluster")
        for thread in self.clients:
            thread.start()
        self.progress("before any harm")

    def is_whole(self):
        """Whether any process can be lost: three vote, and nothing is left of the rings of one and two ingesters."""
        rings = [self.cluster.ring(member) for member in self.cluster.ingesters]
        return any(len(ring["voters"]) == 3 for ring in rings) and not any(ring["past_rings"] for ring in rings)

    def progress(self, when, patience=60.0):
        """Waits until clients get something acknowledged."""
        before = len(self.ledger.acknowledged)
        wait_until(lambda: len(self.ledger.acknowledged) > before + CLIENTS, f"a write {when}", patience)

    def end(self):
        self.stop.set()
        for thread in self.clients:
            if thread.is_alive():
                thread.join()

    def verify(self):
        """Whether every querier shows every acknowledged line once; says what it saw."""
        right = True
        for when in ("from heads", "after a flush"):
            for member in self.cluster.queriers:
                found = wait_until(lambda: found_lines(member), f"an answer of {member.name}")
                shown = set(found)
                lost, doubled = self.ledger.lines() - shown, len(found) - len(shown)
                print(f"  {when}, {member.name}: {len(self.ledger.lines())} acknowledged, {len(found)} found, "
                      f"{len(lost)} lost, {doubled} doubled", flush=True)
                right &= not lost and not doubled
            self.cluster.flush()
        return right

    def ask_all_the_time(self, action):
        """Runs `action` while queriers are asked; a failed or shrinking answer is noted."""
        done = threading.Event()

        def ask():
            last = 0
            while not done.is_set():
                member = self.cluster.queriers[0]
                try:
                    found = len(set(found_lines(member)))
                except Exception as error:  # whatever it is, it is what the client got
                    if not member.away:
                        self.failed_queries.append(f"{member.name}: {error}")
                    continue
                if found < last:
                    self.failed_queries.append(f"{found} lines after {last}")
                last = found

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            action()
        finally:
            done.set()
            thread.join()


def every_process_is_killed(run):
    for member in list(run.cluster.members):
        member.kill()
        time.sleep(run.seconds / 4)
        if member.role == "ingester" or len(run.cluster.of(member.role)) > 1:
            run.progress(f"without {member.name}")
        member.start()


def a_zone_is_cut_off(run):
    zone = [member.machine for member in run.cluster.members if member.zone == "b"]
    rest = [member.machine for member in run.cluster.members if member.zone != "b"]
    run.hosts.part(zone, rest)
    time.sleep(run.seconds)
    run.progress("without a zone")
    run.hosts.heal()


def the_leader_is_cut_off(run):
    leader = run.cluster.leader()
    rest = [member.machine for member in run.cluster.members if member is not leader]
    run.hosts.part([leader.machine], rest)
    time.sleep(run.seconds)
    run.progress("without the leader")
    run.hosts.heal()


def the_leader_is_not_heard(run):
    """What it sends is lost, what it is sent arrives."""
    leader = run.cluster.leader()
    cut_one_way(run, [(leader, other) for other in run.cluster.members if other is not leader])


def an_ingester_does_not_hear(run):
    deaf = run.cluster.ingesters[1]
    cut_one_way(run, [(other, deaf) for other in run.cluster.members if other is not deaf])


def cut_one_way(run, directions):
    """What these senders send to these receivers is lost for a while."""
    for sender, receiver in directions:
        run.hosts.cut(sender.machine, receiver.machine)
    time.sleep(run.seconds)
    run.progress("while some are not heard")
    run.hosts.heal()


def an_ingester_pauses(run):
    paused = run.cluster.ingesters[0]
    paused.process.send_signal(signal.SIGSTOP)
    time.sleep(run.seconds)
    run.progress("while an ingester is paused")
    paused.process.send_signal(signal.SIGCONT)


def a_disk_is_full(run):
    """A file takes the last room of an ingester's disk, which is small."""
    member = run.cluster.ingesters[2]
    member.stop()
    data = pathlib.Path(member.data_dir)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", data], check=True)
    try:
        member.start()  # its disk is new, so that it comes back as another member
        run.progress("on a small disk")
        with open(data / "ballast", "wb") as ballast:
            try:
                while True:
                    ballast.write(bytes(1 << 20))
                    ballast.flush()
            except OSError:
                pass
        time.sleep(run.seconds)
        run.progress("while a disk is full")
        (data / "ballast").unlink()
        time.sleep(run.seconds / 2)
    except BaseException:
        member.kill()
        subprocess.run(["umount", data], check=True)
        raise
    run.at_end = lambda: subprocess.run(["umount", "-l", data], check=True)


def a_disk_is_lost(run):
    member = run.cluster.ingesters[0]
    member.kill()
    shutil.rmtree(member.data_dir)
    time.sleep(run.seconds / 2)
    member.start()
    run.progress("after a disk was lost")


def the_bucket_is_away(run):
    run.bucket.stop()
    time.sleep(run.seconds)
    run.progress("without the bucket")
    run.bucket.start()


def clocks_jump(run):
    """By hours and by a day, while an ingester whose clock is a day ahead would think that all lines are past their retention."""
    library = clock_library(run.folder)
    for member in run.cluster.ingesters[:2] + run.cluster.of("distributor")[:1]:
        member.with_wrong_clock(library)
        member.stop()
        member.start()
    for seconds in (7200, -7200, DAY, -DAY, 0):
        for member in run.cluster.ingesters[:1] + run.cluster.of("distributor")[:1]:
            member.jump(seconds)
        run.cluster.ingesters[1].jump(-seconds)
        time.sleep(run.seconds / 5)
        run.progress(f"with clocks {seconds} s off")


clocks_jump.options = ["--retention", f"{int(time.time() - BASE_NS / 10**9) + DAY // 2}s", "--delete-grace", "1h"]


def every_process_is_restarted(run):
    def restart():
        for member in list(run.cluster.members):
            member.away = True
            member.stop()
            member.start()
            member.away = False
            run.progress(f"after the restart of {member.name}")

    run.ask_all_the_time(restart)


def the_cluster_grows_and_shrinks(run):
    """3 -> 6 -> 3 ingesters; the first three are the ones that go."""
    def scale():
        first = run.cluster.ingesters
        for zone in "abc":
            run.cluster.add("ingester", zone).start()
            run.progress("with another ingester")
        ids = {member["address"]: member["node"] for member in run.cluster.ring()["members"]}
        for member in first:
            run.cluster.queriers[0].post(f"/admin/api/v1/ring/leave/{ids[member.rpc]}")
            wait_until(lambda: not member.alive(), f"{member.name} to leave", 120)
            assert member.process.returncode == 0, f"{member.name} ended with {member.process.returncode}"
            run.cluster.members.remove(member)
            member.log.close()
            run.progress(f"after {member.name} left")

    run.ask_all_the_time(scale)


def zones_change(run):
    """3 -> 2 -> 1 -> 3 zones: ingesters are restarted elsewhere, one by one."""
    def move():
        for zones in ("aab", "aaa", "abc"):
            for member, zone in zip(run.cluster.ingesters, zones):
                if member.zone != zone:
                    member.zone = zone
                    member.stop()
                    member.start()
                    run.progress(f"after {member.name} moved to zone {zone}")

    run.ask_all_the_time(move)


def shards_are_raised(run):
    """6 -> 16 -> 40 shards, with an ingester away and with all; who is restarted is still set to the first number."""
    def use(shards, when):
        wait_until(lambda: all(run.cluster.ring(member)["shards"] == shards for member in run.cluster.members), f"{shards} shards in use")
        run.progress(when)

    def raise_them():
        asked = run.cluster.queriers[0]
        asked.post("/admin/api/v1/ring/shards/16")
        use(16, "with 16 shards")
        away = run.cluster.ingesters[1]
        away.stop()
        run.progress("without an ingester")
        asked.post("/admin/api/v1/ring/shards/40")
        wait_until(lambda: run.cluster.ring()["shards"] == 40, "40 shards in use without an ingester")
        run.progress("with 40 shards")
        away.start()
        use(40, "after it is back")
        status, _, text = asked.request("POST", "/admin/api/v1/ring/shards/16")
        assert status == 409 and b"can only be more" in text, text
        wait_until(run.is_whole, "the rings of fewer shards to be stored")

    run.ask_all_the_time(raise_them)


def distributors_and_queriers_are_added(run):
    """By starting them; they are stopped again without a word."""
    def add():
        added = []
        for role in ("distributor", "querier", "distributor", "querier"):
            added.append(run.cluster.add(role, "a").start())
            run.progress(f"with {added[-1].name}")
        for member in added[:2]:
            member.away = True
            member.stop()
            run.cluster.members.remove(member)
            member.log.close()
            run.progress(f"without {member.name}")

    run.ask_all_the_time(add)


SCENARIOS = {
    name: function for name, function in list(globals().items())
    if inspect.isfunction(function) and function.__module__ == __name__ and list(inspect.signature(function).parameters) == ["run"]
}


def play(name, seconds, apart=True):
    """Whether nothing was lost, doubled, or failed that should not have. `apart`: each process on a host of its own."""
    print(f"{name} ({seconds} s)", flush=True)
    with tempfile.TemporaryDirectory(prefix="pharos-faults-") as folder:
        hosts = Hosts() if apart else None
        bucket = None
        with hosts.inside() if hosts else contextlib.nullcontext():
            if SCENARIOS[name] is the_bucket_is_away:
                bucket = S3("10.77.0.1" if apart else "127.0.0.1")
            options = getattr(SCENARIOS[name], "options", ())
            run = Run(hosts, folder, seconds, bucket.options() if bucket else None, options)
            run.bucket, run.at_end = bucket, lambda: None
            try:
                run.begin()
                SCENARIOS[name](run)
                run.progress("after all is well again")
                run.end()
                right = run.verify()
            except Exception as error:
                print(f"  failed: {error}", flush=True)
                right = False
            finally:
                run.end()
                run.cluster.stop()
                run.at_end()
                if bucket:
                    bucket.stop()
                if hosts:
                    hosts.close()
        for failure in run.failed_queries[:5]:
            print(f"  a query failed: {failure}", flush=True)
        right &= not run.failed_queries
        if not right:
            for log in sorted(pathlib.Path(folder).glob("*.log")):
                print(f"  --- {log.name}\n{log.read_text()[-3000:]}", flush=True)
        return right


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", choices=[[], *SCENARIOS], help=", ".join(SCENARIOS))
    arguments = parser.parse_args()
    failed = [name for name in arguments.scenarios or SCENARIOS if not play(name, arguments.seconds)]
    print(f"failed: {', '.join(failed)}" if failed else "nothing lost, nothing doubled")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
