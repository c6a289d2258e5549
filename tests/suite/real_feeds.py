"""Reads a recorded feed's source on its own and compares what dw-cat gives with it.

    real_feeds.py FEED SOURCE      (dw-cat and dw-ls on PATH, DEEPWATER_BASE set)

Only python's standard library, and nothing of Deepwater's: times are integers of the feed's unit,
decimals integers scaled by their digits. Prints one line of figures, or the first difference and
exit status 1.
"""

import csv
import functools
import gzip
import io
import json
import os
import random
import struct
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

try:
    from zoneinfo import ZoneInfo

    CHICAGO = ZoneInfo("America/Chicago")
except Exception:  # no zone data on this machine: the recording is of September 2013
    CHICAGO = timezone(timedelta(hours=-5))

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@functools.cache
def scaled(value, digits):
    """The exact integer value times ten to the digits; whatever does not fit is an error."""
    value = Decimal(value).scaleb(digits)
    if value != int(value):
        raise ValueError(f"{value} has more than {digits} digits")
    return int(value)


def seconds_of(moment):
    return round((moment - EPOCH).total_seconds())


def iso_ns(text):
    """2025-03-25T23:07:01[.0-9 digits]Z in nanoseconds."""
    if not text.endswith("Z"):
        raise ValueError(text)
    whole, _, fraction = text[:-1].partition(".")
    moment = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return seconds_of(moment) * 10**9 + int(fraction.ljust(9, "0"))


def chicago_us(text, known={}):
    """2013-09-01 17:00:00.083, exchange-local, in microseconds."""
    whole, _, fraction = text.partition(".")
    if whole not in known:
        moment = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=CHICAGO)
        known[whole] = seconds_of(moment) * 10**6
    return known[whole] + int(fraction.ljust(6, "0"))


def es(lines):
    rows = csv.reader(lines)
    if next(rows) != ["DateTime", "Price", "Volume"]:
        raise ValueError("another header")
    for time, price, volume in rows:
        yield chicago_us(time), scaled(price, 2), int(volume)


def items(lines):
    decode = json.JSONDecoder(parse_float=str).decode
    for line in lines:
        yield decode(line)["Item"]


def binance_trades(lines):
    for item in items(lines):
        trade = item["kind"].get("Trade")
        if trade is not None:
            yield (
                iso_ns(item["time_exchange"]),
                iso_ns(item["time_received"]),
                item["instrument"],
                int(trade["id"]),
                scaled(trade["price"], 8),
                scaled(trade["amount"], 8),
                trade["side"],
            )


def binance_quotes(lines):
    for item in items(lines):
        book = item["kind"].get("OrderBookL1")
        if book is not None:
            yield (
                iso_ns(item["time_exchange"]),
                iso_ns(item["time_received"]),
                iso_ns(book["last_update_time"]),
                item["instrument"],
                scaled(book["best_bid"]["price"], 8),
                scaled(book["best_bid"]["amount"], 8),
                scaled(book["best_ask"]["price"], 8),
                scaled(book["best_ask"]["amount"], 8),
            )


def binance_arrivals(lines):
    for item in items(lines):
        received = iso_ns(item["time_received"])
        yield iso_ns(item["time_exchange"]), received, item["exchange"], item["instrument"]


def coinbase_l2(lines):
    for line in lines:
        message = json.loads(line)
        if message["type"] == "l2update":
            for side, price, size in message["changes"]:
                ns = iso_ns(message["time"])
                if ns % 1000:
                    raise ValueError(message["time"])
                product = message["product_id"]
                yield ns // 1000, product, side, scaled(price, 8), scaled(size, 8)


def xauusd(lines):
    midnight_ns = seconds_of(datetime(2014, 5, 1, tzinfo=timezone.utc)) * 10**9
    for time, bid, ask in csv.reader(lines):
        yield midnight_ns + scaled(time, 6), scaled(bid, 3), scaled(ask, 3)


# Of each feed: its reader, and its fields with how a value is told: "=" as it is, or the digits
# of a decimal.
FEEDS = {
    "es": (es, "ts = price 2 volume ="),
    "binance-trades": (
        binance_trades,
        "ts = received = instrument = id = price 8 amount 8 side =",
    ),
    "binance-quotes": (
        binance_quotes,
        "ts = received = updated = instrument = bid 8 bid_size 8 ask 8 ask_size 8",
    ),
    "binance-arrivals": (binance_arrivals, "ts = received = exchange = instrument ="),
    "coinbase-l2": (coinbase_l2, "ts = product = side = price 8 size 8"),
    "xauusd": (xauusd, "ts = bid 3 ask 3"),
}

TEXTS = {"side", "exchange", "product"}


def run(*command):
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0 or done.stderr:
        fail(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.decode()}")
    return done.stdout


def fail(why):
    sys.exit(f"real_feeds.py: {why}")


class Feed:
    def __init__(self, name):
        self.name = name
        self.reader, fields = FEEDS[name]
        words = fields.split()
        self.fields = words[0::2]
        self.digits = words[1::2]

    def rows(self, values):
        """Rows of texts or numbers, in the form the readers above give."""
        columns = []
        for name, how, column in zip(self.fields, self.digits, zip(*values, strict=True)):
            if how != "=":
                columns.append([scaled(value, int(how)) for value in column])
            else:
                columns.append(column if name in TEXTS else map(int, column))
        return list(zip(*columns, strict=True))

    def by_csv(self, *options):
        text = run("dw-cat", self.name, "-o", "csv", *options).decode()
        rows = csv.reader(io.StringIO(text, newline=""))
        header = next(rows)
        if header != self.fields:
            fail(f"{self.name}: the header is {header}")
        return self.rows(rows)

    def by_jsonl(self):
        decode = json.JSONDecoder(parse_float=str).decode
        records = [decode(line) for line in run("dw-cat", self.name).decode().splitlines()]
        for record in records:
            if list(record) != self.fields:
                fail(f"{self.name}: keys {list(record)}")
        return self.rows(record.values() for record in records)

    def by_raw(self, *options):
        """Records as bytes, taken apart by the layout that dw-ls tells."""
        return self.taken_apart(run("dw-cat", self.name, "-o", "raw", *options))

    def taken_apart(self, data):
        layout = json.loads(run("dw-ls", "--layout", "json", self.name))
        shape, at = "<", 0
        for field in layout["fields"]:
            code = {"uint8": "B", "uint32": "I", "uint64": "Q", "timestamp": "Q"}
            kind = field["type"]
            code = code.get(kind) or ("q" if kind.startswith("dec") else f"{field['size']}s")
            shape += f"{field['offset'] - at}x{code}"
            at = field["offset"] + field["size"]
        shape = struct.Struct(f"{shape}{layout['record_size'] - at}x")
        if [field["name"] for field in layout["fields"]] != self.fields:
            fail(f"{self.name}: layout {layout}")
        if not TEXTS.intersection(self.fields):
            return list(shape.iter_unpack(data))
        return [tuple(text(value) for value in row) for row in shape.iter_unpack(data)]


def text(value):
    return value.rstrip(b"\0").decode() if isinstance(value, bytes) else value


def compare(what, expected, got):
    if expected == got:
        return
    for at, (right, wrong) in enumerate(zip(expected, got)):
        if right != wrong:
            fail(f"{what}: row {at}: the source says {right}, the feed {wrong}")
    fail(f"{what}: the source has {len(expected)} rows, the feed {len(got)}")


def ranges(rows, chance):
    """Pairs of times: within a narrow part, over much of it, on times that occur, at the ends."""
    times = [row[0] for row in rows]
    low, high = min(times), max(times)
    yield low, high
    yield low, high + 1
    yield high, high + 1
    yield low, low + 1
    for _ in range(4):
        begin = chance.choice(times)
        yield begin, begin + chance.randrange(1, max(2, (high - low) // 1000))
        yield tuple(sorted((chance.randrange(low, high), chance.randrange(low, high))))
        yield tuple(sorted((chance.choice(times), chance.choice(times))))


def rfc3339(at, unit):
    whole, part = divmod(at, unit)
    digits = len(str(unit)) - 1
    moment = EPOCH + timedelta(seconds=whole)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{part:0{digits}d}Z"


def check_ranges(feed, rows):
    chance = random.Random(20130901)
    unit = 10**9 if len(str(rows[0][0])) == 19 else 10**6
    found = 0
    for count, (since, until) in enumerate(ranges(rows, chance)):
        expected = [row for row in rows if since <= row[0] < until]
        words = [since, until] if count % 2 else [rfc3339(since, unit), rfc3339(until, unit)]
        # Both forms are held equal over the whole feed: many rows are taken in the quicker one.
        read = feed.by_raw if len(expected) > 10_000 else feed.by_csv
        got = read("--since", str(words[0]), "--until", str(words[1]))
        compare(f"{feed.name} --since {words[0]} --until {words[1]}", expected, got)
        found += len(expected)
    compare(f"{feed.name} -n 7", rows[-7:], feed.by_csv("-n", "7"))
    compare(f"{feed.name} -n +7 -r", rows[6::-1], feed.by_csv("-n", "+7", "-r"))
    return count + 1, found


def main():
    name, source = sys.argv[1:]
    feed = Feed(name)
    opened = gzip.open if source.endswith(".gz") else open
    with opened(source, "rt", encoding="utf-8", newline="") as lines:
        rows = list(feed.reader(lines))
    compare(f"{name} as csv", rows, feed.by_csv())
    compare(f"{name} as jsonl", rows, feed.by_jsonl())
    raw = run("dw-cat", name, "-o", "raw")
    compare(f"{name} as raw", rows, feed.taken_apart(raw))
    folder = Path(os.environ["DEEPWATER_BASE"]) / "feeds" / name
    if raw != b"".join(file.read_bytes() for file in sorted(folder.glob("*.data"))):
        fail(f"{name}: the chunks' files hold something else")
    count, found = check_ranges(feed, rows)
    newest, late = 0, 0
    for row in rows:
        late += row[0] < newest
        newest = max(newest, row[0])
    print(f"{name}: {len(rows)} rows, {late} late, {count} ranges with {found} rows")


main()
