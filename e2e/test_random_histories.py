"""Random pushes, copies, flushes, merges and kills, beside a set of records in Python that must never differ."""
import random

import pytest

from loki import BASE_NS, BASE_S, ask, entry, push, stream
from server import Server

SECONDS = 1000
PAGE = 5000
TENANTS, APPS, METADATA = ["a", "b"], ["x", "y", "z"], ["", "m1", "m2"]
BUSY = ["--head-bytes-max", "64KiB", "--slot-duration", "1s", "--merge-interval", "1s", "--merge-inputs-min", "2"]


class History:
    """A server and the records that it has acknowledged: a set, as a record sent twice is one record."""

    def __init__(self, server, seed):
        self.server, self.rnd = server, random.Random(seed)
        self.records = {tenant: set() for tenant in TENANTS}

    def record(self):
        """Few distinct words and whole seconds, so that times and lines collide."""
        rnd = self.rnd
        at = BASE_NS + rnd.randrange(SECONDS) * 10**9 + rnd.choice([0, 0, 1, rnd.randrange(10**9)])
        line = f"w{rnd.randrange(30)} took {rnd.randrange(100)}ms " + rnd.choice(["", "ü", '{"a":1}'])
        return at, rnd.choice(APPS), line, rnd.choice(METADATA)

    def push(self):
        tenant, streams = self.rnd.choice(TENANTS), {}
        sent = sorted(self.records[tenant]) if self.rnd.random() < 0.3 else []
        for _ in range(self.rnd.randint(1, 200)):
            record = self.rnd.choice(sent) if sent and self.rnd.random() < 0.5 else self.record()
            self.records[tenant].add(record)
            at, app, line, metadata = record
            streams.setdefault(app, []).append(entry(at, line, {"k": metadata} if metadata else {}))
        status, _, answer = push(self.server, *(stream(f'{{job="random", app="{app}"}}', *found) for app, found in streams.items()), tenant=tenant)
        assert status == 204, answer

    def disturb(self):
        chance = self.rnd.random()
        if chance < 0.3:
            self.server.post("/admin/api/v1/flush")
        if chance < 0.1:
            self.server.post("/admin/api/v1/merge")
        elif chance > 0.9:
            self.server.kill()
            self.server.start()

    def found(self, tenant):
        """Every record that the server shows, page by page."""
        headers = {"X-Scope-OrgID": tenant, "X-Loki-Response-Encoding-Flags": "categorize-labels"}
        start, found = BASE_NS, []
        while True:
            streams = ask(self.server, "query_range", headers=headers, query='{job="random"}', direction="forward",
                          start=start, end=BASE_NS + SECONDS * 10**9, limit=PAGE)["data"]["result"]
            page = [(int(at), one["stream"]["app"], line, kinds.get("structuredMetadata", {}).get("k", ""))
                    for one in streams for at, line, kinds in one["values"]]
            if len(page) < PAGE:
                return sorted(found + page)
            # The latest time may go on in the next page.
            start = max(record[0] for record in page)
            found += [record for record in page if record[0] < start]

    def check(self, when):
        for tenant, records in self.records.items():
            found = self.found(tenant)
            assert len(found) == len(records) and set(found) == records, (
                when, tenant, f"missing {sorted(records - set(found))[:3]}, unknown {sorted(set(found) - records)[:3]}, {len(found)} of {len(records)}")
            first, last = sorted(self.rnd.sample(range(SECONDS), 2))
            word = f"w{self.rnd.randrange(30)} "
            wanted = {}
            for at, app, line, _ in records:
                if first * 10**9 < at - BASE_NS <= last * 10**9 and word in line:
                    wanted[app] = wanted.get(app, 0) + 1
            query = f'sum by (app) (count_over_time({{job="random"}} |= "{word}" [{last - first}s]))'
            answer = ask(self.server, "query", headers={"X-Scope-OrgID": tenant}, query=query, time=BASE_S + last)["data"]["result"]
            assert {one["metric"]["app"]: int(one["value"][1]) for one in answer} == wanted, (when, tenant, query)


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_happens_each_record_is_there_once(tmp_path, seed):
    server = Server(tmp_path, BUSY).start()
    try:
        history = History(server, seed)
        for step in range(40):
            for _ in range(history.rnd.randint(1, 6)):
                history.push()
            history.disturb()
            if history.rnd.random() < 0.3:
                history.check(f"seed {seed}, step {step}")
        server.post("/admin/api/v1/flush")
        history.check(f"seed {seed}, flushed")
        server.post("/admin/api/v1/merge")
        history.check(f"seed {seed}, merged")
        assert server.storage()["records"] == sum(len(records) for records in history.records.values())
    finally:
        server.stop()
