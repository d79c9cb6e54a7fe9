#!/usr/bin/env python3
"""Make log corpora of many shapes, as ready-to-send Loki push bodies, with the truth beside them.

usage: corpora.py OUT_DIR [SHAPE ...] [--megabytes N] [--seed N] [--start SECONDS]

One folder per shape (all shapes when none is named): 000000.sz ... are snappy-compressed
logproto.PushRequest bodies, truth.json holds what a server must answer about them: records (copies
counted once), records sent, raw bytes, counts per app, counts of some substrings per app, needles
planted once each, and counts per minute of one substring. The same seed makes the same bytes.
"""
import argparse, base64, collections, json, os, random, string, sys, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
import loki

WORDS = """account action active address adapter agent alert amount answer archive array asset balance
bank basket batch billing binding block branch bridge broker bucket buffer bundle cache calendar
canvas carrier cart catalog certificate channel charge checkout client cluster column command commit
compact config connection consumer container context contract controller cookie counter coupon
courier credit cursor customer daemon dataset deadline decoder delivery deploy device digest
directory discount dispatch document domain driver duplicate element encoder endpoint engine entry
envelope epoch event exchange executor export factory feature fetch field filter folder forward
frame gateway gossip group guard handler header health history holder identity image import index
inventory invoice issuer iterator journal kernel keeper label latency leader ledger lesson limit
listener loader locale location lock manager manifest mapping market matcher measure member message
meter metric migration mirror module monitor network notice object offset operator option order
origin owner packet parcel parser partition passage payment peer period permit pipeline planner
platform policy pool portal position prefix price printer process product profile promise protocol
provider proxy publisher purchase query queue quota range reader receipt record recovery reducer
refund region registry relay reload remote renewal replica report request reserve resolver resource
response restart result retry return review role router rule runner sample scanner schedule schema
scope search secret section segment selector sender sequence server service session setting shard
shipment shutdown signal snapshot socket source stage standby state statement station storage store
stream subject supplier switch symbol table target task template tenant terminal thread ticket
timeout token topic tracker transfer trigger tunnel update upload vault vendor version volume voucher
wallet watcher webhook window worker wrapper writer zone""".split()
VERBS = "accepted applied blocked cancelled changed checked closed confirmed created declined delayed deleted dropped expired failed finished found handled ignored loaded lost missed moved opened parsed queued read refused released renewed replaced retried saved scheduled sent skipped started stopped stored verified waited".split()
LEVELS = ["debug"] * 2 + ["info"] * 12 + ["warn"] * 2 + ["error"]
METHODS = ["GET"] * 12 + ["POST"] * 5 + ["PUT", "DELETE", "PATCH", "HEAD"]
STATUSES = [200] * 30 + [201] * 4 + [204, 301, 302, 304, 304, 400, 401, 403, 404, 404, 429, 500, 502, 503]
AGENTS = [f"Mozilla/5.0 ({system}) AppleWebKit/{kit} (KHTML, like Gecko) {name}/{major}.0.{minor}.0 Safari/{kit}"
          for system in ("Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64", "iPhone; CPU iPhone OS 18_2 like Mac OS X")
          for kit in ("537.36", "605.1.15") for name, major, minor in (("Chrome", 131, 6778), ("Chrome", 129, 6668), ("Edg", 130, 2849))]
AGENTS += ["curl/8.9.1", "kube-probe/1.31", "Go-http-client/2.0", "python-requests/2.32.3", "okhttp/4.12.0"]
PROSE = {
    "de": "Der Auftrag wurde für die Prüfung übergeben und später mit größter Sorgfalt erneut ausgeführt während die Gebühr zurück an Käufer floss",
    "fr": "La requête a été reçue à temps mais le délai dépassé empêche désormais toute opération côté serveur où les données étaient gardées",
    "ru": "Запрос принят сервером и поставлен в очередь но ответ пока не получен поэтому попытка будет повторена позже другим узлом",
    "ja": "注文 を 受け付け ました 在庫 が 不足 して いる ため 発送 は 明日 に なり ます 決済 処理 完了 確認 メール 送信",
    "ar": "تم استلام الطلب وسيتم تحويله إلى الخادم التالي بعد التحقق من الحساب والرصيد",
    "emoji": "🚀 deploy ✅ passed ❌ failed ⚠️ slow 🔥 burning 🐢 lagging 🎉 done 👀 watching",
}
SUBSTRINGS = ["error", "timeout", "order", "200", "a1"]


class Maker:
    """Draws of one corpus: ids come back for a while, as real ones do."""

    def __init__(self, seed, start):
        self.rnd = random.Random(seed)
        self.now = start * 10**9
        self.pools = {}

    def hex(self, digits):
        return "%0*x" % (digits, self.rnd.getrandbits(4 * digits))

    def pooled(self, name, fresh, size=300, share=0.15):
        pool = self.pools.setdefault(name, [])
        if len(pool) < 3 or self.rnd.random() < share:
            value = fresh()
            if len(pool) < size:
                pool.append(value)
            else:
                pool[self.rnd.randrange(size)] = value
            return value
        return pool[int(len(pool) * self.rnd.random())]

    def uuid(self):
        h = self.hex(32)
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"

    def word(self):
        return WORDS[int(len(WORDS) * self.rnd.random() ** 2)]

    def choice(self, values):
        return values[int(len(values) * self.rnd.random())]

    def number(self, top):
        return int(top ** self.rnd.random())

    def ip(self):
        return self.pooled("ip", lambda: ".".join(str(self.rnd.randrange(1, 255)) for _ in range(4)), 2000)

    def clock(self, pattern):
        return time.strftime(pattern, time.gmtime(self.now // 10**9))

    def iso(self):
        return self.clock("%Y-%m-%dT%H:%M:%S") + ".%06dZ" % (self.now // 1000 % 10**6)

    def base64(self, count):
        return base64.b64encode(self.rnd.randbytes(count)).decode()


def logfmt(m):
    level = m.choice(LEVELS)
    words = m.word(), m.choice(VERBS)
    kind = m.rnd.randrange(4)
    head = f"ts={m.iso()} level={level} caller={words[0]}.go:{len(words[0]) * 17}"
    if kind == 0:
        return f'{head} msg="{words[0]} {words[1]}" order={m.pooled("order", lambda: m.number(10**9))} duration={m.number(10**6) / 1000:.3f}ms'
    if kind == 1:
        return f'{head} msg="request {words[1]}" method={m.choice(METHODS)} path=/api/v1/{m.word()}/{m.number(10**6)} status={m.choice(STATUSES)} bytes={m.number(10**6)}'
    if kind == 2:
        return f'{head} msg="{words[0]} {words[1]}, retry" attempt={m.rnd.randrange(9)} err="dial tcp {m.ip()}:{m.choice((443, 5432, 6379))}: i/o timeout" trace_id={m.hex(32)}'
    return f'{head} msg="{words[1]}" user={m.pooled("user", m.uuid)} ratio={m.rnd.random():.4f}'


def json_line(m):
    """Twelve or more fields, of which some come and go; nested; two orders of keys."""
    service = m.choice(WORDS[:40])
    fields = {
        "timestamp": m.iso(), "level": m.choice(LEVELS).upper(), "logger": f"com.{service}.{m.choice(WORDS[:12])}",
        "thread": f"worker-{m.rnd.randrange(32)}", "message": f"{m.word()} {m.choice(VERBS)} after {m.number(5000)} ms",
        "trace_id": m.pooled("trace", lambda: m.hex(32)), "span_id": m.hex(16), "user": {"id": m.pooled("user", m.uuid), "plan": m.choice(("free", "team", "pro"))},
        "http": {"method": m.choice(METHODS), "status": m.choice(STATUSES), "path": f"/api/{m.word()}/{m.number(10**5)}"},
        "duration_ms": round(m.rnd.lognormvariate(2, 1), 3), "pod": f"{service}-{m.pooled(service, lambda: m.hex(10), 6, 0.001)}", "host": f"ip-10-0-{m.rnd.randrange(4)}-{m.rnd.randrange(60)}",
    }
    for name in ("retry", "region", "tags", "cached", "error"):
        if m.rnd.random() < 0.3:
            fields[name] = {"retry": m.rnd.randrange(5), "region": m.choice(("eu-1", "us-2")), "tags": [m.word() for _ in range(m.rnd.randrange(4))],
                            "cached": m.rnd.random() < 0.5, "error": f"{m.word()} {m.word()}: context deadline exceeded"}[name]
    return json.dumps(fields, separators=(",", ":") if m.rnd.random() < 0.8 else None)


def access(m):
    path = f"/{m.word()}/{m.word()}" + m.choice(("", f"/{m.number(10**6)}", f"?id={m.number(10**8)}&page={m.rnd.randrange(30)}", f".{m.choice(('css', 'js', 'png'))}?v={m.pooled('asset', lambda: m.hex(8), 50, 0.01)}"))
    referer = m.choice(("-", "-", f"https://www.example.com/{m.word()}", f"https://search.example.net/?q={m.word()}+{m.word()}"))
    line = f'{m.ip()} - - [{m.clock("%d/%b/%Y:%H:%M:%S +0000")}] "{m.choice(METHODS)} {path} HTTP/1.1" {m.choice(STATUSES)} {m.number(10**6)} "{referer}" "{m.choice(AGENTS)}"'
    if m.rnd.random() < 0.5:
        line += f' rt={m.rnd.lognormvariate(-3, 1):.3f} uct="0.00{m.rnd.randrange(9)}" urt="{m.rnd.random():.3f}"'
    return line


def java(m):
    """One record in three is a trace of 10 to 60 lines, some frames differing from trace to trace."""
    head = f"{m.clock('%Y-%m-%d %H:%M:%S')},{m.rnd.randrange(1000):03d} {m.choice(LEVELS).upper():5} [{m.choice(WORDS[:30])}-exec-{m.rnd.randrange(64)}] c.e.{m.choice(WORDS[:20])}.{m.word().title()}Service - {m.word()} {m.choice(VERBS)} for id {m.number(10**8)}"
    if m.rnd.random() < 0.66:
        return head
    rnd = random.Random(m.rnd.randrange(40))   # one of 40 places where things fail
    lines = [head, f"java.lang.{rnd.choice(('IllegalState', 'NullPointer', 'Runtime', 'IllegalArgument'))}Exception: {m.word()} {m.number(10**4)} is not {rnd.choice(VERBS)}"]
    for _ in range(rnd.randrange(10, 50)):
        w = rnd.choice(WORDS), rnd.choice(WORDS), rnd.choice(WORDS)
        frame = f"\tat com.example.{w[0]}.{w[1].title()}{w[2].title()}.{w[2]}({w[1].title()}{w[2].title()}.java:{rnd.randrange(20, 900)})"
        if m.rnd.random() < 0.03:
            frame = f"\tat jdk.internal.reflect.GeneratedMethodAccessor{m.rnd.randrange(2000)}.invoke(Unknown Source)"
        lines.append(frame)
    if rnd.random() < 0.5:
        lines += [f"Caused by: java.net.SocketTimeoutException: Read timeout to {m.ip()}", f"\t... {rnd.randrange(90)} more"]
    return "\n".join(lines)


def long_line(m):
    """4 to 64 KiB: dumped requests, SQL, encoded files, lists of numbers."""
    want = 4096 << m.rnd.randrange(4) if m.rnd.random() < 0.5 else m.rnd.randrange(4096, 65536)
    kind = m.rnd.randrange(4)
    if kind == 0:
        part = lambda: json_line(m)
    elif kind == 1:
        part = lambda: f"INSERT INTO {m.word()}_{m.word()} (id, {m.word()}, {m.word()}) VALUES ({m.number(10**9)}, '{m.word()} {m.word()}', {m.rnd.random():.3f});"
    elif kind == 2:
        part = lambda: f"<{m.word()} class=\"{m.word()} {m.word()}\">{' '.join(m.word() for _ in range(12))}</{m.word()}>"
    else:
        part = lambda: m.base64(300)
    out = [f"level={m.choice(LEVELS)} id={m.uuid()} body="]
    size = 0
    while size < want:
        out.append(part())
        size += len(out[-1])
    return "".join(out)[:want]


def entropy(m):
    return m.choice((lambda: m.base64(m.rnd.randrange(20, 120)), lambda: m.hex(m.rnd.choice((32, 40, 64, 128))), lambda: m.uuid() + " " + m.uuid(),
                     lambda: "".join(m.rnd.choices(string.ascii_letters + string.digits + "+/=-_.:; ", k=m.rnd.randrange(20, 150)))))()


def uuids(m):
    return m.uuid()


def tokens(m):
    """Keys with random values: what authentication and tracing write."""
    return f"level={m.choice(LEVELS)} key={m.base64(18)} session={m.base64(24)} sig={m.base64(48)} id={m.hex(24)} op={m.word()}"


def blobs(m):
    """2 to 16 KB of nothing but base64."""
    return m.base64(m.rnd.randrange(1500, 12000))


def escapes(m):
    """Bytes of a message as a program prints them."""
    return "recv msg: " + "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in m.rnd.randbytes(m.rnd.randrange(20, 120)))


def csv(m):
    return f"{m.iso()},{m.number(10**8)},{m.word()},{m.rnd.random() * 100:.3f},{m.hex(10)},{m.choice(STATUSES)},{m.ip()},\"{m.word()} {m.word()}\",{m.rnd.randrange(10**6)}"


def tiny(m):
    return m.choice((lambda: "ok", lambda: ".", lambda: str(m.rnd.randrange(100)), lambda: m.word(), lambda: f"{m.word()}={m.rnd.randrange(10)}", lambda: f"t{m.rnd.randrange(1000)}", lambda: ""))()


def numbers(m):
    kind = m.rnd.randrange(3)
    if kind == 0:
        return " ".join(str(m.number(10**7)) for _ in range(24))
    if kind == 1:
        return ",".join(f"{m.rnd.gauss(50, 9):.4f}" for _ in range(m.rnd.randrange(8, 20)))
    return f"gc {m.number(10**5)} @{m.number(10**7) / 1000:.3f}s {m.rnd.randrange(9)}%: " + "+".join(f"{m.rnd.random() * 9:.2f}" for _ in range(6)) + f" ms clock, {m.rnd.randrange(64)}->{m.rnd.randrange(64)}->{m.rnd.randrange(64)} MB, {m.rnd.randrange(128)} MB goal"


def utf8(m):
    language = m.choice(list(PROSE))
    words = PROSE[language].split()
    text = " ".join(m.choice(words) for _ in range(m.rnd.randrange(4, 16)))
    return f"{m.clock('%H:%M:%S')} [{language}] {text} №{m.number(10**6)} «{m.word()}»" if m.rnd.random() < 0.7 else text


def prose(m):
    """No numbers, no templates: free text."""
    return " ".join(m.word() if m.rnd.random() < 0.7 else m.choice(VERBS) for _ in range(m.rnd.randrange(5, 30))) + "."


def otlp(m):
    """A short body and 14 attributes; the metadata is what weighs."""
    service = m.choice(WORDS[:20])
    level = m.choice(LEVELS)
    metadata = {
        "trace_id": m.pooled("trace", lambda: m.hex(32), 200, 0.25), "span_id": m.hex(16), "flags": "1", "severity_text": level.upper(), "severity_number": str({"debug": 5, "info": 9, "warn": 13, "error": 17}[level]),
        "observed_timestamp": str(m.now + m.rnd.randrange(10**6, 10**9)), "scope_name": f"io.opentelemetry.{service}", "http_request_method": m.choice(METHODS), "http_response_status_code": str(m.choice(STATUSES)),
        "url_path": f"/{m.word()}/{m.number(10**5)}", "client_address": m.ip(), "user_id": m.pooled("user", m.uuid), "thread_id": str(m.rnd.randrange(200)), "code_lineno": str(len(service) * 31),
    }
    if m.rnd.random() < 0.1:
        metadata["exception_message"] = f"{m.word()} {m.choice(VERBS)}: timeout"
    if m.rnd.random() < 0.3:
        metadata["latency_ms"] = f"{m.rnd.lognormvariate(2, 1):.6f}"
    return f"{m.word()} {m.choice(VERBS)} for {m.word()} {m.number(10**5)}", metadata


# shape: (line or (line, metadata), streams, order of times, share of records sent twice)
SHAPES = {
    "json": (json_line, 64, "time", 0), "access": (access, 16, "time", 0), "java": (java, 32, "time", 0), "long": (long_line, 8, "time", 0),
    "entropy": (entropy, 16, "time", 0), "uuids": (uuids, 16, "time", 0), "tokens": (tokens, 16, "time", 0), "blobs": (blobs, 16, "time", 0),
    "escapes": (escapes, 16, "time", 0), "csv": (csv, 16, "time", 0), "tiny": (tiny, 32, "time", 0), "numbers": (numbers, 16, "time", 0), "utf8": (utf8, 16, "time", 0),
    "prose": (prose, 16, "time", 0), "otlp": (otlp, 20, "time", 0), "streams": (logfmt, 10_000, "time", 0), "single": (logfmt, 1, "time", 0),
    "random": (logfmt, 32, "random", 0), "copies": (logfmt, 32, "time", 0.5),
}


def make(shape, folder, megabytes, seed, start):
    line_of, streams, order, twice = SHAPES[shape]
    m = Maker(f"{shape} {seed}", start)
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        if name.endswith(".sz"):
            os.remove(f"{folder}/{name}")
    truth = {"shape": shape, "seed": seed, "start_ns": m.now, "lines": 0, "sent": 0, "bytes": 0, "metadata_bytes": 0, "files": 0, "apps": collections.Counter(),
             "subs": {s: collections.Counter() for s in SUBSTRINGS}, "per_minute_error": collections.Counter(), "needles": []}
    names = [(f"{WORDS[k % 16]}", k) for k in range(streams)]
    labels = [f'{{app="{app}", cluster="eu-1", namespace="ns{k % 4}", pod="{app}-{k}"}}'.encode() for app, k in names]
    total, want, bodies, held, sent = 0, megabytes * 10**6, collections.defaultdict(list), 0, []
    seen = set()

    def flush():
        nonlocal bodies, held
        with open(f"{folder}/{truth['files']:06d}.sz", "wb") as f:
            f.write(loki.push_body(*(loki.stream(labels[k], *entries) for k, entries in bodies.items())))
        truth["files"] += 1
        bodies, held = collections.defaultdict(list), 0

    while total < want:
        m.now += m.rnd.randrange(1, 20_000_000)
        made = line_of(m)
        line, metadata = made if isinstance(made, tuple) else (made, {})
        # Streams are busy in bursts and unevenly, as real ones are.
        if m.rnd.random() < 0.4 or not truth["sent"]:
            stream = int(streams * m.rnd.random() ** 1.5)
        if m.rnd.random() < 30 * len(line) / want and len(truth["needles"]) < 20:
            needle = m.hex(32)
            line += f" trace_id={needle}"
            truth["needles"].append({"id": needle, "app": names[stream][0], "pod": f"{names[stream][0]}-{stream}", "ts": m.now, "line": line})
        ts = m.now if order == "time" else start * 10**9 + m.rnd.randrange(3600 * 10**9)
        record = (stream, ts, line.encode(), metadata)
        sent.append(record)
        records = [record]
        if twice and m.rnd.random() < twice:
            records.append(m.choice(sent[-3000:]))
        if len(sent) > 6000:
            del sent[:3000]
        for stream_of, at, text, pairs in records:
            weight = len(text) + sum(len(k) + len(v) for k, v in pairs.items())
            bodies[stream_of].append(loki.entry(at, text, sorted(pairs.items())))
            held += weight + 16
            total += weight
            truth["sent"] += 1
            if twice:
                if (stream_of, at, text) in seen:
                    continue
                seen.add((stream_of, at, text))
            truth["lines"] += 1
            truth["bytes"] += len(text)
            truth["metadata_bytes"] += weight - len(text)
            app = names[stream_of][0]
            truth["apps"][app] += 1
            for s in SUBSTRINGS:
                if s.encode() in text:
                    truth["subs"][s][app] += 1
            if b"error" in text:
                truth["per_minute_error"][at // 60_000_000_000] += 1
        if held > 1_000_000:
            flush()
    if bodies:
        flush()
    truth["end_ns"] = m.now + 1 if order == "time" else start * 10**9 + 3600 * 10**9
    with open(f"{folder}/truth.json", "w") as f:
        json.dump(truth, f, indent=1)
    print(f"{shape:8} {truth['lines']:8} lines, {truth['bytes'] / 1e6:.1f} MB and {truth['metadata_bytes'] / 1e6:.1f} MB of metadata, {truth['files']} bodies, {streams} streams", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=", ".join(SHAPES))
    parser.add_argument("--megabytes", type=int, default=32, help="raw text and metadata of each corpus")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--start", type=int, default=1_790_000_000, help="time of the first record, in seconds")
    args = parser.parse_args()
    for shape in args.shapes or SHAPES:
        if shape not in SHAPES:
            parser.error(f"no shape {shape}: there are {', '.join(SHAPES)}")
        make(shape, f"{args.out}/{shape}", args.megabytes, args.seed, args.start)


if __name__ == "__main__":
    main()
