# SPDX-License-Identifier: BSD-3-Clause
"""Two servers that are given the same sequence, and what differs between them. A sequence that fails
is made as short as it can be and shown as lines for redis-cli."""
import time

import differences
from harness import PATIENCE, Error, Raw, Server, Simple
from normal import Near, is_open_sort, items, name_of, normal, unordered_deep
from script_calls import CALLERS, called, in_resp3
from sequences import DEFAULTS, Exchange, Plain, Sample, Scan

DATABASES = 16


class Mismatch(Exception):
    def __init__(self, text, signature):
        super().__init__(text)
        self.signature = signature


def quoted(arg):
    if not isinstance(arg, bytes):
        arg = str(arg).encode()
    if arg and all(33 <= c < 127 and c not in b"\"'\\" for c in arg):
        return arg.decode()
    names = {10: "\\n", 13: "\\r", 9: "\\t", 34: '\\"', 92: "\\\\"}
    return '"' + "".join(names.get(c) or (chr(c) if 32 <= c < 127 else f"\\x{c:02x}") for c in arg) + '"'


def line_of(args):
    return " ".join(quoted(a) for a in args)


def shorten(value, limit=600):
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def describe(sequence):
    lines = [f"CONFIG SET {k} {v}" for k, v in sequence.config.items()]
    for step in sequence.steps:
        prefix = "" if step.connection == 0 else "(second connection) "
        if isinstance(step, Scan):
            prefix += "(to the end) "
        if isinstance(step, Exchange):
            prefix += f"(restored by the other as {quoted(step.target)}) "
        lines += [prefix + line_of(a) for a in step.lines()]
    return "\n".join("    " + line for line in lines)


class Pair:
    def __init__(self, reference="redis", subject="holdfast", options=None):
        self.kinds = (reference, subject)
        self.options = options or {}
        self.servers = [None, None]
        self.connections = [{}, {}]
        self.config = dict(DEFAULTS)
        for i in (0, 1):
            self.start(i)

    def start(self, i):
        self.servers[i] = Server(self.kinds[i], self.options)
        self.config = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()

    def stop(self):
        self.disconnect()
        for server in self.servers:
            # One that has ended by itself is a mismatch already told of.
            if server.process.poll() is None:
                server.stop()

    def disconnect(self):
        for connections in self.connections:
            for connection in connections.values():
                connection.close()
            connections.clear()

    def connection(self, i, number):
        if number not in self.connections[i]:
            raw = self.connections[i][number] = self.servers[i].raw()
            raw.socket.settimeout(PATIENCE)
        return self.connections[i][number]

    def both(self, number, commands):
        """The replies of both servers to a pipeline."""
        data = b"".join(Raw.encode(c) for c in commands)
        for i in (0, 1):
            self.connection(i, number).send(data)
        return [[self.connection(i, number).read() for _ in commands] for i in (0, 1)]

    def reset(self, config):
        self.disconnect()
        for i in (0, 1):
            if self.servers[i].process.poll() is not None:
                self.start(i)
        wanted = {**DEFAULTS, **config}
        commands = [["DEBUG", "QUICKLIST-PACKED-THRESHOLD", "0"], ["FLUSHALL"], ["SCRIPT", "FLUSH"], ["FUNCTION", "FLUSH"]]
        if wanted != self.config:
            # One at a time: what one server does not know must not keep it from the rest.
            commands += [["CONFIG", "SET", name, value] for name, value in wanted.items()]
            self.config = wanted
        self.both(0, commands)

    # ---- one sequence ----

    def run(self, sequence, whole=True, afresh=True):
        """Raises Mismatch if the servers differ. Not `afresh`: on the data that is there."""
        if afresh:
            self.reset(sequence.config)
            self.sorted = self.scanned = False
            # Where so long values are packed, a hash may have been larger than an entry holds before.
            self.restored = sequence.config.get("hash-max-listpack-value") == "10000"
        self.queued = {}
        if any(step.args[:2] == [b"CONFIG", b"SET"] for step in sequence.steps):
            self.config = None  # they are no longer what they were set to
            self.restored = True
        self.restored |= any(isinstance(step, Exchange) or any(
            isinstance(x, bytes) and x.upper() == b"RELOAD" for x in step.args) for step in sequence.steps)
        # How many calls a full iteration takes is each server's own: so often is the key used.
        self.scanned |= any(isinstance(step, Scan) for step in sequence.steps)
        self.sorted |= any(c[0].upper().startswith(b"SORT") for step in sequence.steps for a in step.lines()
                           for c in [a] + (called(a)[0] or [] if name_of(a) in CALLERS else []))
        batch = []
        for step in sequence.steps:
            if batch and (not isinstance(step, Plain) or step.connection != batch[0].connection
                          or len(batch) >= sequence.batch):
                self.run_plain(batch)
                batch = []
            if isinstance(step, Plain):
                batch.append(step)
            elif step.connection not in self.queued:
                self.run_special(step)
        if batch:
            self.run_plain(batch)
        self.compare_data(whole)

    def run_plain(self, batch):
        commands = [step.args for step in batch]
        number = batch[0].connection
        for args, a, b in zip(commands, *self.both(number, commands)):
            self.compare(number, args, a, b)

    def compare(self, number, args, a, b):
        name = name_of(args)
        queue = self.queued.get(number)
        if name == "EXEC" and queue is not None and isinstance(a, list) and isinstance(b, list) and \
                len(a) == len(b) == len(queue):
            del self.queued[number]
            for command, x, y in zip(queue, a, b):
                self.equal(command, x, y, " in EXEC")
            return
        if a == Simple("QUEUED") and queue is not None:
            queue.append(args)
        elif name == "MULTI" and a == Simple("OK"):
            self.queued[number] = []
        elif name in ("EXEC", "DISCARD", "RESET") and queue is not None and not (
                isinstance(a, Error) and "wrong number" in a):
            del self.queued[number]
        self.equal(args, a, b)

    def equal(self, args, a, b, where=""):
        if a == b:
            return
        if normal(args, a) == normal(args, b):
            return
        name = name_of(args)
        if differences.intended(name, a, b, args):
            return
        if name in CALLERS and self.equal_inside(args, a, b):
            return
        if name == "OBJECT FREQ" and self.scanned and type(a) is type(b) is int:
            return
        if name == "OBJECT ENCODING" and self.sorted and differences.intended("SORTED ENCODING", a, b):
            return
        raise Mismatch(f"{line_of(args)[:1500]}{where}\n  {self.kinds[0]}: {shorten(a)}\n  {self.kinds[1]}: {shorten(b)}",
                       (name, signature(a), signature(b)))

    def equal_inside(self, args, a, b):
        """A script's reply is what the commands that it calls replied, or an array of that. Sets and maps go
        through Lua's tables, which have no order."""
        commands, many = called(args)
        if commands is None:
            return False
        if not many:
            a, b = [a], [b]
        elif not (isinstance(a, list) and isinstance(b, list) and len(a) == len(b) == len(commands)):
            return False
        for command, x, y in zip(commands, a, b):
            if in_resp3(args) and isinstance(x, list) and isinstance(y, list) and is_open_sort(command):
                continue  # with a null Lua's array ends, and which one is first is left open
            if unordered_deep(normal(command, x)) != unordered_deep(normal(command, y)) or not in_resp3(args):
                self.equal(command, x, y, f" in {line_of(args[:1])}")
        return True

    def run_special(self, step):
        if isinstance(step, Scan):
            replies = [self.scan(self.connection(i, step.connection), step.args) for i in (0, 1)]
            self.equal(step.args[:2], *replies)
        elif isinstance(step, Sample):
            replies = self.both(step.connection, step.lines())
            for i in (0, 1):
                problem = sample_problem(step, replies[i])
                if problem:
                    raise Mismatch(f"{line_of(step.args)}\n  {self.kinds[i]}: {shorten(replies[i])}\n  {problem}",
                                   (name_of(step.args), "sample", i))
            self.equal(step.contents, replies[0][0], replies[1][0])
            a, b = replies[0][1], replies[1][1]
            if isinstance(a, Error) or isinstance(b, Error) or items(a) is None or items(b) is None:
                self.equal(step.args, a, b)
            elif len(items(a)) != len(items(b)) or type(a) is not type(b):
                raise Mismatch(f"{line_of(step.args)}\n  {self.kinds[0]}: {shorten(a)}\n  {self.kinds[1]}: {shorten(b)}",
                               (name_of(step.args), "length"))
            if step.takes:
                self.equal(step.lines()[3], replies[0][3], replies[1][3])
        elif isinstance(step, Exchange):
            dumps = [self.connection(i, step.connection)("DUMP", step.key) for i in (0, 1)]
            if not all(isinstance(d, bytes) for d in dumps):
                self.equal([b"DUMP", step.key], *dumps)
                return
            replies = [self.connection(i, step.connection)("RESTORE", step.target, 0, dumps[1 - i], "REPLACE")
                       for i in (0, 1)]
            if replies != [Simple("OK"), Simple("OK")]:
                raise Mismatch(f"RESTORE of the other's DUMP {quoted(step.key)}: {replies}\n  DUMPs: {shorten(dumps)}",
                               ("RESTORE", str(replies)))

    @staticmethod
    def scan(raw, args):
        """All that full iterations return, as a set; or the reply if it is not one of SCAN's."""
        cursor, found, pairs = b"0", set(), name_of(args) in ("HSCAN", "ZSCAN")
        for _ in range(100000):
            reply = raw(*[cursor if a is None else a for a in args])
            if not (isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list)):
                return reply
            found.update(zip(reply[1][::2], reply[1][1::2]) if pairs else reply[1])
            cursor = reply[0]
            if cursor == b"0":
                return sorted(found)
        raise Mismatch(f"{line_of(args)}: no end after 100000 calls", (name_of(args), "endless"))

    # ---- the data at the end ----

    def compare_data(self, whole):
        self.disconnect()
        self.negative_zero = False
        a, b = self.both(0, [["DEBUG", "DIGEST"]])
        if a != b or whole:
            self.compare_values()
        if a != b and not self.negative_zero:
            raise Mismatch(f"DEBUG DIGEST differs though every value read is equal: {a} {b}", ("DIGEST",))

    def compare_values(self):
        for db in range(DATABASES):
            a, b = self.both(0, [["SELECT", db], ["KEYS", "*"]])
            keys = sorted(a[1])
            if keys != sorted(b[1]):
                raise Mismatch(f"keys of database {db}\n  {self.kinds[0]}: {shorten(keys)}\n  {self.kinds[1]}: "
                               f"{shorten(sorted(b[1]))}", ("data", "keys"))
            if not keys:
                continue
            reads = {b"string": lambda k: [b"GET", k], b"list": lambda k: [b"LRANGE", k, 0, -1],
                     b"hash": lambda k: [b"HGETALL", k], b"set": lambda k: [b"SMEMBERS", k],
                     b"zset": lambda k: [b"ZRANGE", k, 0, -1, b"WITHSCORES"],
                     b"stream": lambda k: [b"XINFO", b"STREAM", k, b"FULL", b"COUNT", 0]}
            types = self.both(0, [["TYPE", k] for k in keys])
            commands = []
            for key, kind in zip(keys, types[0]):
                commands += [[b"TYPE", key], [b"PEXPIRETIME", key], [b"OBJECT", b"ENCODING", key],
                             reads[kind.encode()](key), [b"DEBUG", b"DIGEST-VALUE", key]]
            a, b = self.both(0, commands)
            for i, args in enumerate(commands):
                if args[0] == b"ZRANGE" and differences.has_negative_zero(a[i]):
                    # The digest is made of the scores as they are written.
                    self.negative_zero = True
                    a[i + 1] = b[i + 1]
                self.equal(args, a[i], b[i], f" in database {db} at the end")
                # A small hash keeps the order in which its fields came, an intset is sorted.
                if self.restored:
                    continue  # in hash order, if it was so when it was dumped or saved
                if args[0] == b"HGETALL" and a[i - 1] == b"listpack" or args[0] == b"SMEMBERS" and a[i - 1] == b"intset":
                    if a[i] != b[i] and not differences.intended("ORDER", a[i], b[i]):
                        raise Mismatch(f"order of {line_of(args)}\n  {self.kinds[0]}: {shorten(a[i])}\n  "
                                       f"{self.kinds[1]}: {shorten(b[i])}", ("order", name_of(args)))

    # ---- making a failure small ----

    def mismatch(self, sequence, whole=True):
        try:
            self.run(sequence, whole)
            return None
        except Mismatch as mismatch:
            return mismatch
        except (EOFError, OSError, ValueError) as error:
            self.disconnect()
            text = f"{type(error).__name__}: {error}"
            for server in self.servers:
                try:
                    # Give a sanitizer the time to write its report.
                    status = server.process.wait(3 if not isinstance(error, TimeoutError) else 0.1)
                    text += f"\n{server.kind} ended with {status}:\n{crash_report(server.text())}"
                except Exception:
                    if isinstance(error, TimeoutError) and server.kind == "holdfast":
                        server.kill()
            return Mismatch(text, (type(error).__name__, str(error)))

    def minimise(self, sequence, mismatch, seconds=20):
        """The shortest sequence found that fails in the same way, and how it fails."""
        end = time.monotonic() + seconds
        best, steps = mismatch, list(sequence.steps)

        def fails(candidate):
            nonlocal best, steps
            found = self.mismatch(sequence.with_steps(candidate))
            if found is not None and found.signature[0] == mismatch.signature[0]:
                best, steps = found, candidate
                return True
            return False

        size = max(len(steps) // 2, 1)
        while time.monotonic() < end:
            at = 0
            while at < len(steps) and time.monotonic() < end:
                if not fails(steps[:at] + steps[at + size:]):
                    at += size
            if size == 1:
                break
            size //= 2
        self.shorten_arguments(steps, fails, end)
        return sequence.with_steps(steps), best

    @staticmethod
    def shorten_arguments(steps, fails, end):
        for index in range(len(steps) - 1, -1, -1):
            if not isinstance(steps[index], Plain):
                continue
            size = max(len(steps[index].args) // 2, 1)
            while size and time.monotonic() < end:
                at = 1
                while at < len(steps[index].args) and time.monotonic() < end:
                    args = steps[index].args
                    candidate = steps[:index] + [Plain(steps[index].connection, args[:at] + args[at + size:])] + steps[index + 1:]
                    if fails(candidate):
                        steps = candidate
                    else:
                        at += size
                size //= 2


def crash_report(text):
    """What a sanitizer or an assertion said, or the end of the log."""
    for mark in ("ERROR: AddressSanitizer", "runtime error", "Assertion", "ensure", "BUG REPORT"):
        at = text.find(mark)
        if at >= 0:
            return text[max(at - 200, 0):at + 3500]
    return text[-2000:]


def signature(reply):
    if isinstance(reply, Error):
        return str(reply)[:25]
    return type(reply).__name__


def sample_problem(step, replies):
    """What is wrong with one server's answers to a Sample, or None."""
    contents, sample = replies[0], replies[1]
    if isinstance(sample, Error) or isinstance(contents, Error):
        return None
    single = len(step.args) == 2
    pairs = isinstance(contents, tuple) and contents[0] == "map" or step.contents[0] in (b"HGETALL", b"ZRANGE")
    whole = list(items(contents) if items(contents) is not None else contents[1])
    if pairs and whole and not isinstance(whole[0], (tuple, list)):
        whole = list(zip(whole[::2], whole[1::2]))
    names = [x[0] for x in whole] if pairs else whole
    if single:
        if not whole:
            return None if sample in (None, ("null",)) else "something from nothing"
        picked = [sample]
        if sample not in names:
            return "not an element"
    else:
        picked = items(sample)
        if picked is None:
            return "not a list"
        with_values = len(step.args) > 3
        if with_values:
            if picked and not isinstance(picked[0], list):
                picked = list(zip(picked[::2], picked[1::2]))
            known = {(x[0], x[1]) for x in whole}
            if any((x[0], x[1]) not in known for x in picked):
                return "a pair that is not there"
            picked = [x[0] for x in picked]
        if any(x not in names for x in picked):
            return "not an element"
        count = int(step.args[2])
        wanted = min(count, len(whole)) if count >= 0 else (-count if whole else 0)
        if len(picked) != wanted:
            return f"{len(picked)} elements instead of {wanted}"
        if count >= 0 and len(set(picked)) != len(picked):
            return "an element twice"
    if step.takes:
        rest = items(replies[2])
        if sorted(list(rest) + picked) != sorted(whole):
            return "what was popped and what is left are not what was there"
    return None
