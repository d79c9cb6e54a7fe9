"""The benchmark's 13 questions in LogsQL, for VictoriaLogs; names, ranges and right answers are those of querylogs.py.

A whole id is asked for as a phrase, which its token filter knows; what may be a part of a word has to be a regular
expression there.
"""
import json
import statistics
import sys
import time
import urllib.parse

EVERYTHING = '{cluster="eu-1"}'
MINUTE = 60


class Asker:
    def __init__(self, server, truth):
        self.server, self.truth = server, truth
        self.start, self.end = truth["start_ns"], truth["end_ns"] + 1

    def fetch(self, path, query, **params):
        params = {"query": query, "start": self.start, "end": self.end} | params
        status, body = self.server.get(f"/select/logsql/{path}?" + urllib.parse.urlencode(params))
        if status != 200:
            raise ValueError(f"{status} {body[:200]!r}")
        return body

    def rows(self, query, **params):
        return [json.loads(line) for line in self.fetch("query", query, **params).splitlines()]

    def lines(self, query, **params):
        return [row["_msg"] for row in self.rows(query, **params)]

    def values(self, path, query, **params):
        return [one["value"] for one in json.loads(self.fetch(path, query, **params))["values"]]

    def per_step(self, query):
        """Series over whole minutes."""
        start = self.start // 10**9 // MINUTE * MINUTE
        end = self.end // 10**9 // MINUTE * MINUTE
        found = self.fetch("stats_query_range", query, start=start, end=end, step=f"{MINUTE}s")
        return json.loads(found)["data"]["result"]

    def questions(self):
        """Name, how it is asked, and what makes the answer right."""
        truth = self.truth
        needle = truth["needles"][7]
        known = needle["id"]
        absent = ("0" if known.startswith("fffff") else "f") * 5 + known[5:]
        largest = max(truth["apps"], key=truth["apps"].get)
        errors = {int(minute): count for minute, count in truth["per_minute_error"].items()}
        whole_minutes = sorted(errors)[1:-1]

        def counts(rows):
            return {row["app"]: int(row["n"]) for row in rows}

        def minutes_right(series):
            seen = {int(at) // MINUTE: int(count) for at, count in series[0]["values"]}
            return all(seen[minute] == errors[minute] for minute in whole_minutes)

        def refused_passwords(lines):
            return len(lines) == 100 and all("Failed password" in line and "invalid user" not in line for line in lines)

        return [
            ("needle, whole id", lambda: self.lines(f'{EVERYTHING} "{known}"', limit=10), lambda got: got == [needle["line"]]),
            ("needle, part of an id", lambda: self.lines(f'{EVERYTHING} ~"{known[3:21]}"', limit=10), lambda got: got == [needle["line"]]),
            ("needle that is nowhere", lambda: self.lines(f'{EVERYTHING} "{absent}"', limit=10), lambda got: got == []),
            ("needle by regex", lambda: self.lines(f'{EVERYTHING} ~"trace_id={known[:4]}[0-9a-f]+{known[-4:]}"', limit=10), lambda got: got == [needle["line"]]),
            ("count lines with 'error' per app", lambda: self.rows(f'{EVERYTHING} ~"error" | stats by (app) count() n'), lambda got: counts(got) == truth["subs"]["error"]),
            ("'error' per minute", lambda: self.per_step(f'{EVERYTHING} ~"error" | stats count() n'), minutes_right),
            ("lines per app, no filter", lambda: self.rows(f"{EVERYTHING} | stats by (app) count() n"), lambda got: counts(got) == truth["apps"]),
            ("volume per app over time", lambda: self.per_step(f"{EVERYTHING} | stats by (app) rate() r"), lambda got: len(got) == len(truth["apps"])),
            ("last 1000 of one app", lambda: self.lines(f'{{app="{largest}"}}', limit=1000), lambda got: len(got) == 1000),
            ("last 100 of 'Failed password'", lambda: self.lines('{app="OpenSSH"} "Failed password" !"invalid user"', limit=100), refused_passwords),
            (
                "top 5 source addresses",
                lambda: self.rows('{app="OpenSSH"} "Failed password" | extract_regexp "from (?P<ip>[0-9.]+)" | stats by (ip) count() n | sort by (n desc) limit 5'),
                lambda got: len(got) == 5,
            ),
            ("label values", lambda: self.values("stream_field_values", EVERYTHING, field="app"), lambda got: sorted(got) == sorted(truth["apps"])),
            ("series", lambda: self.values("streams", EVERYTHING), lambda got: len(got) % len(truth["apps"]) == 0 and got),
        ]


def ask(server, truth, runs):
    """Medians in ms by question, and whether all answers were right."""
    medians, all_right = {}, True
    for name, question, is_right in Asker(server, truth).questions():
        times, verdict = [], "right"
        for _ in range(runs):
            began = time.perf_counter()
            try:
                got = question()
                times.append((time.perf_counter() - began) * 1e3)
                if not is_right(got):
                    verdict = f"WRONG {str(got)[:160]}"
            except (ValueError, KeyError, IndexError) as error:
                verdict = f"WRONG {error!r}"
        medians[name] = statistics.median(times) if times else float("nan")
        all_right &= verdict == "right"
        print(f"  {name:36s} {medians[name]:9.1f} ms   first {times[0] if times else medians[name]:9.1f} ms   {verdict}", flush=True)
    return medians, all_right


def scan(server, truth):
    """Looks through every line once."""
    found = Asker(server, truth).rows(f'{EVERYTHING} ~"[x-z][0-9][ -/:][x-z]" | stats count() n')
    if len(found) != 1:
        sys.exit(f"the scan was answered {found!r}")
