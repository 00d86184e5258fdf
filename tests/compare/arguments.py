# SPDX-License-Identifier: BSD-3-Clause
"""Where random arguments come from: keys whose names tell which type they mostly hold, values at the
sizes where encodings change, numbers, and what is not quite a number."""

# Strings, lists, hashes, sets, sorted sets, streams; HyperLogLogs and places, which are strings and
# sorted sets.
TYPES = "slhSzxpg"

KEYS = {t: [b"%s%d" % (t.encode(), i) for i in (1, 2, 3)] for t in TYPES}
SHARED_KEYS = [b"k1", b"k2", b"", b"\x00bin\r\n\xff key", b"a key of more than a few bytes {tag} " * 3]

ODD_INTEGERS = [b"", b" 1", b"1 ", b"+1", b"-0", b"00", b"01", b"0x10", b"1e3", b"1.5", b"abc", b"1\x00", b"-",
                b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"-9223372036854775809",
                b"18446744073709551615", b"18446744073709551616", b"2147483647", b"2147483648", b"-2147483649",
                b"4294967295", b"4294967296", b"99999999999999999999999999"]

ODD_FLOATS = [b"nan", b"NaN", b"-nan", b"inf", b"-inf", b"+inf", b"Infinity", b"INF", b"1e400", b"-1e400", b"1e-400",
              b"0x1p3", b"1e308", b"-1e308", b"1.7976931348623157e308", b"5e-324", b"2.2250738585072014e-308", b"",
              b" 1", b"1 ", b"1,5", b"1.", b".5", b"1e", b"--1", b"(1", b"abc", b"1e5", b"1E+5", b"9007199254740993",
              b"9223372036854775807", b"0.30000000000000004", b"1" * 40, b"0." + b"1" * 40, b"1" * 400, b"+5"]

WORDS = [b"EX", b"PX", b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR", b"GET", b"KEEPTTL", b"COUNT", b"MATCH", b"LIMIT",
         b"WITHSCORES", b"WITHVALUES", b"LEFT", b"RIGHT", b"BEFORE", b"AFTER", b"STORE", b"REPLACE", b"ABSTTL",
         b"WEIGHTS", b"AGGREGATE", b"MIN", b"MAX", b"ASYNC", b"BYSCORE", b"BYLEX", b"REV", b"DB", b"*", b"STREAMS", b"GROUP", b"MAXLEN", b"~"]

# Far enough away that no test run sees it, and one key's expiry never equals another's by accident.
FAR_SECONDS = 4102444800

# Sizes at which something changes: the small encodings' limits, a packed node's, a socket buffer's.
SIZES = [0, 1, 2, 3, 11, 12, 20, 21, 43, 44, 45, 62, 63, 64, 65, 66, 127, 128, 129, 252, 253, 254, 255, 256, 257, 600]
BIG_SIZES = [1000, 4000, 4090, 4096, 4097, 5000, 8192, 8193, 16383, 16384, 20000]


class Arguments:
    """Random arguments. `theme` is the type most commands of the sequence work on, `big` allows
    values of several kilobytes, `large` strings and collections that are trees of nodes, `oddness` is how
    often something other than a sensible argument is given."""

    def __init__(self, rng, theme=None, big=False, large=False, oddness=0.05):
        self.rng = rng
        self.theme = theme
        self.big = big
        self.large = large
        self.oddness = oddness
        self.inner = None  # the names that scripts call, see script_calls
        self.longest = 0  # how long a string may be where that is not long (proto-max-bulk-len); 0: very long
        self.exact = False  # set by a generator whose arguments must stay as they are
        # Few names and values a sequence, so that commands meet what others have left.
        self.pool = [b"%s%d" % (p, i) for p in (b"m", b"") for i in range(rng.choice((3, 8, 30)))]
        if large:
            self.pool = [b"m%d" % i for i in range(0, 4000, 3)]
        self.sizes = SIZES + BIG_SIZES * 2 if big else SIZES

    def chance(self, probability):
        return self.rng.random() < probability

    def pick(self, *choices):
        return self.rng.choice(choices)

    def key(self, kind):
        r = self.rng.random()
        if r < 0.87 - self.oddness:
            return self.rng.choice(KEYS[kind][:2])
        if r < 0.92:
            return KEYS[kind][2]
        return self.any_key()

    def any_key(self):
        if self.chance(0.3):
            return self.rng.choice(SHARED_KEYS)
        return self.rng.choice(KEYS[self.rng.choice(TYPES)])

    def keys(self, kind, low=1, high=4):
        return [self.key(kind) for _ in range(self.rng.randint(low, high))]

    def bytes(self, size):
        r = self.rng.random()
        if r < 0.4:
            return (b"%c" % self.rng.randint(97, 122)) * size
        if r < 0.7:
            return (b"the same words again %d and " % self.rng.randint(0, 9) * (size // 20 + 1))[:size]
        return self.rng.randbytes(size)

    def value(self):
        r = self.rng.random()
        if r < 0.4:
            return self.rng.choice(self.pool)
        if r < 0.6:
            return b"%d" % self.rng.choice((0, 1, -1, 7, 12345, -300, 127, 128, 32767, 32768, 8388608, -8388609,
                                             2147483647, 2147483648, 2 ** 63 - 1, -2 ** 63, 2 ** 63, 10 ** 20))
        if r < 0.65:
            return self.odd()
        if r < 0.7:
            return self.float()
        return self.bytes(self.rng.choice(self.sizes))

    def member(self):
        return self.rng.choice(self.pool) if self.chance(0.8) else self.value()

    def members(self, low=1, high=5):
        return [self.member() for _ in range(self.rng.randint(low, high))]

    def integer(self, low=-10, high=10):
        if self.chance(self.oddness):
            return self.rng.choice(ODD_INTEGERS)
        if self.large and self.chance(0.7):
            # As far into a large value as a small number is into a small one.
            scale = 20000 if self.theme == "s" else 300
            return b"%d" % self.rng.randint(low * scale, high * scale)
        return b"%d" % self.rng.randint(low, high)

    def bigint(self):
        if self.chance(0.2):
            return self.rng.choice(ODD_INTEGERS)
        return b"%d" % self.rng.randint(-10 ** self.rng.randint(1, 19), 10 ** self.rng.randint(1, 19))

    def float(self):
        r = self.rng.random()
        if r < self.oddness * 2:
            return self.rng.choice(ODD_FLOATS)
        if r < 0.4:
            return b"%d" % self.rng.randint(-5, 5)
        if r < 0.7:
            return b"%.2f" % self.rng.uniform(-10, 10)
        if r < 0.8:
            return b"%.17g" % self.rng.uniform(-1, 1)
        if r < 0.9:
            return b"%.3e" % (self.rng.uniform(-10, 10) * 10.0 ** self.rng.randint(-20, 20))
        return b"%d" % self.rng.randint(-2 ** 55, 2 ** 55)

    def score(self):
        value = self.float()
        # What becomes of a negative zero is left to the list of differences' own test.
        return value if value not in (b"-0", b"-0.00") else b"0"

    def count(self):
        """A count that removes or returns: small, none, huge, negative."""
        r = self.rng.random()
        if self.large and r < 0.5:
            return b"%d" % self.rng.randint(0, 1500)
        if r < 0.75:
            return b"%d" % self.rng.randint(0, 6)
        if r < 0.85:
            return b"%d" % self.rng.choice((10, 100, 1000, 2 ** 31, 2 ** 63 - 1))
        return self.integer(-5, 20)

    def random_count(self):
        """For commands that repeat elements -count times: never far below zero."""
        r = self.rng.random()
        if r < 0.9:
            return b"%d" % self.rng.randint(-9, 12)
        return self.rng.choice([b"-9223372036854775808", b"100", b"abc", b"", b"1.5", b"9223372036854775808", b"600"])

    def offset(self):
        if self.longest and self.chance(0.1):
            return b"%d" % (self.longest + self.rng.randint(-70, 3))
        if self.chance(self.oddness):
            return self.rng.choice((b"-1", b"536870912", b"9223372036854775807", b"4294967296", b"", b"x", b"-0"))
        if self.large:
            return b"%d" % self.rng.randint(0, 400000)
        return b"%d" % self.rng.choice((0, 1, 3, 10, 43, 100, 500) + ((4096, 6000, 20000) if self.big else ()))

    def score_bound(self):
        r = self.rng.random()
        if r < 0.3:
            return self.rng.choice((b"-inf", b"+inf", b"inf"))
        value = self.float()
        return b"(" + value if r > 0.75 else value

    def lex_bound(self):
        r = self.rng.random()
        if r < 0.3:
            return self.rng.choice((b"-", b"+"))
        if r < 0.95:
            return self.rng.choice((b"[", b"(")) + self.member()
        return self.member()

    def expire_at(self):
        return FAR_SECONDS + self.rng.randint(0, 10 ** 8)

    def expire_in(self):
        """Far apart, so that NX/XX/GT/LT decide alike whatever millisecond each server is in."""
        return self.rng.randrange(10 ** 4, 10 ** 9, 977)

    def word(self, *words):
        word = self.rng.choice(words).encode()
        return word if self.chance(0.7) else self.rng.choice((word.lower(), word.title()))

    def words(self, probability, *words):
        """Each of the words with the probability given."""
        return [self.word(w) for w in words if self.chance(probability)]

    def odd(self):
        kind = self.rng.randrange(4)
        if kind == 0:
            return self.rng.choice(ODD_INTEGERS)
        if kind == 1:
            return self.rng.choice(ODD_FLOATS)
        if kind == 2:
            return self.rng.choice(WORDS)
        return self.rng.choice((b"", b"\x00", b"\r\n", b"\xff" * 5, b"-1", b"0", b"*", b"[a", b"(1", b"\\", b'"'))

    def pattern(self):
        return self.pick(b"*", b"*", b"s*", b"?1", b"[sl]*", b"[^s]?", b"*1", b"m*", b"", b"[", b"\\*", b"[a-z]2", b"*[",
                         b"k\\1", b"**", b"[z-a]1", b"*\x00*", b"?", b"[]", b"[^]", b"m[0-3]", b"[\\]s]1")
