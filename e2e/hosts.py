"""Machines of a small network, made of network namespaces: one address each, links that can be cut one way.

Needs root and `ip` (Debian's iproute2). Nothing outside the namespaces is touched.
"""
import contextlib
import ctypes
import itertools
import os
import subprocess

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
# Nobody has it: what is sent there is gone, and the sender is not told.
NOWHERE = "02:00:00:00:00:fe"
SERIAL = itertools.count()


def ip(*arguments):
    done = subprocess.run(["ip", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(map(str, arguments))}: {done.stderr.strip()}")


def available():
    """Whether namespaces can be made here."""
    name = f"pharos-try-{os.getpid()}"
    try:
        ip("netns", "add", name)
        ip("netns", "del", name)
    except (OSError, RuntimeError):
        return False
    return True


class Host:
    def __init__(self, namespace, address):
        self.namespace, self.address = namespace, address

    def exec(self, command):
        """The command line that runs `command` on this host."""
        return ["ip", "netns", "exec", self.namespace, *command]


class Hosts:
    """A switch with hosts on it. `with hosts.inside():` lets this thread, and those it starts, talk to them."""

    def __init__(self):
        self.prefix = f"pharos-{os.getpid()}-{next(SERIAL)}"
        self.switch = f"{self.prefix}-switch"
        self.hosts, self.cuts = [], set()
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "add", "switch", "type", "bridge")
        ip("-n", self.switch, "addr", "add", "10.77.0.1/24", "dev", "switch")
        ip("-n", self.switch, "link", "set", "switch", "up")
        ip("-n", self.switch, "link", "set", "lo", "up")

    def add(self):
        number = len(self.hosts) + 2
        host = Host(f"{self.prefix}-{number}", f"10.77.0.{number}")
        port = f"port{number}"
        ip("netns", "add", host.namespace)
        self.hosts.append(host)
        ip("-n", self.switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        ip("-n", self.switch, "link", "set", port, "master", "switch", "up")
        ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
        ip("-n", host.namespace, "link", "set", "eth0", "up")
        ip("-n", host.namespace, "link", "set", "lo", "up")
        return host

    def cut(self, sender, receiver):
        """What the sender sends to the receiver is lost; the other way stays open."""
        ip("-n", sender.namespace, "neigh", "replace", receiver.address, "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent")
        self.cuts.add((sender, receiver))

    def part(self, ones, others):
        """Nothing passes between the two groups, in either direction."""
        for one in ones:
            for other in others:
                self.cut(one, other)
                self.cut(other, one)

    def heal(self):
        for sender, receiver in self.cuts:
            ip("-n", sender.namespace, "neigh", "del", receiver.address, "dev", "eth0")
        self.cuts.clear()

    @contextlib.contextmanager
    def inside(self):
        with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{self.switch}") as switch:
            enter(switch)
            try:
                yield self
            finally:
                enter(before)

    def close(self):
        for namespace in [host.namespace for host in self.hosts] + [self.switch]:
            ip("netns", "del", namespace)


def enter(namespace):
    if LIBC.setns(namespace.fileno(), CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")
