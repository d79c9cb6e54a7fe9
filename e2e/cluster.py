"""A cluster of real processes: on loopback ports, or each on a host of its own (`hosts.Hosts`)."""
import http.client
import itertools
import json
import os
import pathlib
import subprocess
import time

from server import Server, free_port

ZONES = "abc"


class Member(Server):
    """One process of a cluster."""

    def __init__(self, name, folder, role, zone, options, host=None):
        self.name, self.role, self.zone, self.machine = name, role, zone, host
        self.clock = pathlib.Path(folder) / f"{name}.clock"
        log = open(pathlib.Path(folder) / f"{name}.log", "a")  # kept for whoever looks at a failed test
        super().__init__(
            pathlib.Path(folder) / name, options, log=log, env={"PHAROS_LOG_FILTER": "info"},
            host=host.address if host else "127.0.0.1")
        self.rpc = f"{self.host}:{free_port()}"
        self.join = ""
        self.away = False  # taken out of the balancer that stands before queriers

    def command(self):
        command = super().command() + [
            "--roles", self.role, "--zone", self.zone, "--rpc-addr", self.rpc, "--join", self.join]
        return self.machine.exec(command) if self.machine else command

    def with_wrong_clock(self, library):
        """From its next start on the process has the clock that `jump` sets."""
        self.env |= {"LD_PRELOAD": str(library), "PHAROS_TEST_CLOCK": str(self.clock)}

    def jump(self, seconds):
        self.clock.write_text(str(seconds))

    def alive(self):
        return self.process is not None and self.process.poll() is None


class Cluster:
    """`ingesters`, `distributors` and `queriers` many processes over three zones, one bucket."""

    def __init__(self, folder, ingesters=3, distributors=2, queriers=2, hosts=None, storage=None, options=()):
        self.folder, self.hosts = pathlib.Path(folder), hosts
        self.options = [*(storage or ["--storage-url", self.folder / "bucket"]), *options]
        self.numbers = itertools.count(1)
        self.members = []
        for role, count in (("ingester", ingesters), ("distributor", distributors), ("querier", queriers)):
            for at in range(count):
                self.add(role, ZONES[at % len(ZONES)])
        self.turn = itertools.count()

    def add(self, role, zone):
        """A further member, which is not started."""
        name = f"{role}-{next(self.numbers)}"
        host = self.hosts.add() if self.hosts else None
        member = Member(name, self.folder, role, zone, self.options, host)
        self.members.append(member)
        # Whoever starts later asks the first ingesters, which form the cluster among themselves.
        founders = [m.rpc for m in self.members if m.role == "ingester"][:3]
        for each in self.members:
            each.join = ",".join(founders)
        return member

    def start(self):
        for member in self.members:
            member.launch()
        for member in self.members:
            member.ready()
        return self

    def of(self, role):
        return [member for member in self.members if member.role == role]

    @property
    def ingesters(self):
        return self.of("ingester")

    @property
    def queriers(self):
        return [member for member in self.of("querier") if member.alive() and not member.away]

    def request(self, method, path, body=None, headers=None, timeout=60):
        """To the distributors in turn, as a balancer in front of them would."""
        distributors = [member for member in self.of("distributor") if member.alive()]
        member = distributors[next(self.turn) % len(distributors)]
        return member.request(method, path, body, headers, timeout=timeout)

    def ring(self, asked=None):
        """What `GET /admin/api/v1/ring` says at one member."""
        status, body = (asked or self.queriers[0]).get("/admin/api/v1/ring", timeout=10)
        assert status == 200, body
        return json.loads(body)

    def leader(self):
        """The ingester that leads the coordinators."""
        leader = wait_until(lambda: self.ring()["leader"], "a leader")["address"]
        return next(member for member in self.ingesters if member.rpc == leader)

    def flush(self):
        """Every ingester stores what it has, also when the coordinators have to find a leader first."""
        for member in self.ingesters:
            if member.alive():
                wait_until(lambda: member.post("/admin/api/v1/flush") is not None, f"a flush of {member.name}", 120)

    def stop(self):
        """Ends what still runs, by its own id."""
        for member in self.members:
            if member.alive():
                member.process.kill()
        for member in self.members:
            if member.process:
                member.process.wait()
            member.log.close()


def wait_until(condition, what, patience=60.0):
    """The first true value of `condition`; one that fails is asked again, and what it said last is told at the end."""
    deadline, last = time.monotonic() + patience, None
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except (OSError, http.client.HTTPException, RuntimeError, AssertionError) as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {patience} s" + (f", {last!r}" if last else ""))


def clock_library(folder):
    """Builds what makes a process' clock wrong; needs a C compiler."""
    library = pathlib.Path(folder) / "faketime.so"
    source = pathlib.Path(__file__).parent / "faketime.c"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library
