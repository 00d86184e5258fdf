// SPDX-License-Identifier: BSD-3-Clause
// node-redis, as applications use it: RESP3, streams with groups, messages, locks, sessions, a rate limit, scripts, transactions and
// client-side caching. Usage: node services.js PORT
const assert = require("node:assert/strict");
const { createClient, createClientPool, defineScript } = require("redis");

const url = `redis://127.0.0.1:${process.argv[2]}/4`;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const fail = (error) => { throw error; };

async function connect(options = {}) {
  const client = createClient({ url, RESP: 3, ...options });
  client.on("error", fail);
  return client.connect();
}

async function until(condition, what) {
  const end = Date.now() + 120000;
  while (!(await condition())) {
    assert.ok(Date.now() < end, `${what} took too long`);
    await pause(10);
  }
}

// Two consumers of a group share what a producer writes; one dies with entries that it has not acknowledged, and another takes them over.
async function streams(redis) {
  await redis.xGroupCreate("events", "billing", "$", { MKSTREAM: true });
  const seen = new Map();
  const consume = async (name, many) => {
    const own = await connect();
    for (let taken = 0; taken < many;) {
      const reply = await own.xReadGroup("billing", name, [{ key: "events", id: ">" }], { COUNT: 10, BLOCK: 60000 });
      for (const [id] of reply.events) {
        assert.ok(!seen.has(id), "an entry came twice");
        seen.set(id, name);
        taken++;
        if (name === "steady") await own.xAck("events", "billing", id);
      }
    }
    own.destroy();
  };
  const running = [consume("steady", 50), consume("dying", 30)];
  for (let n = 0; n < 400 && (n < 80 || seen.size < 80); n++) {
    await redis.xAdd("events", "*", { n: String(n) });
    if (n % 10 === 0) await pause(2);
  }
  await Promise.all(running);
  const dying = [...seen.values()].filter((name) => name === "dying").length;
  const pending = await redis.xPending("events", "billing");
  assert.equal(pending.pending, dying);
  const claimed = await redis.xAutoClaim("events", "billing", "heir", 0, "0-0", { COUNT: 1000 });
  assert.equal(claimed.messages.length, dying);
  await redis.xAck("events", "billing", claimed.messages.map((m) => m.id));
  assert.equal((await redis.xPending("events", "billing")).pending, 0);
  const groups = await redis.xInfoGroups("events");
  assert.equal(groups.length, 1);
  await redis.xTrim("events", "MAXLEN", 5);
  assert.equal(await redis.xLen("events"), 5);
}

// Channels and patterns, over a connection of their own.
async function messages(redis) {
  const own = await connect();
  const got = [];
  await own.subscribe("news", (message, channel) => got.push([channel, message]));
  await own.pSubscribe("log.*", (message, channel) => got.push([channel, message]));
  await own.sSubscribe("shard", (message, channel) => got.push([channel, message]));
  assert.equal(await redis.publish("news", "one"), 1);
  assert.equal(await redis.publish("log.error", "two"), 1);
  assert.equal(await redis.publish("elsewhere", "nobody"), 0);
  assert.equal(await redis.sPublish("shard", "three"), 1);
  await until(() => got.length === 3, "three messages");
  assert.deepEqual(got.sort(), [["log.error", "two"], ["news", "one"], ["shard", "three"]]);
  await own.unsubscribe("news");
  assert.equal(await redis.publish("news", "late"), 0);
  own.destroy();
}

// A lock that only its owner may release, and that many want at once.
async function locks(redis) {
  let inside = 0, most = 0, entered = 0;
  const release = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";
  await Promise.all(Array.from({ length: 20 }, async (_, i) => {
    while ((await redis.set("lock", `owner ${i}`, { condition: "NX", expiration: { type: "PX", value: 30000 } })) === null) await pause(1);
    most = Math.max(most, ++inside);
    entered++;
    await pause(1);
    inside--;
    assert.equal(await redis.eval(release, { keys: ["lock"], arguments: ["somebody else"] }), 0);
    assert.equal(await redis.eval(release, { keys: ["lock"], arguments: [`owner ${i}`] }), 1);
  }));
  assert.deepEqual([entered, most, await redis.exists("lock")], [20, 1, 0]);
}

// Sessions in hashes that end by themselves, longer when they are used.
async function sessions(redis) {
  await redis.hSet("session:1", { user: "ada", cart: JSON.stringify([1, 2]) });
  await redis.pExpire("session:1", 60000);
  await redis.hSet("session:2", { user: "bob" });
  await redis.pExpire("session:2", 30);
  await pause(60);
  assert.equal(await redis.exists("session:2"), 0);
  assert.deepEqual({ ...(await redis.hGetAll("session:1")) }, { user: "ada", cart: "[1,2]" });
  assert.equal(await redis.hIncrBy("session:1", "views", 2), 2);
  await redis.expire("session:1", 120);
  assert.ok((await redis.ttl("session:1")) > 60);
}

// A window that slides, in a script that the client knows by name.
async function rateLimit() {
  const redis = await connect({
    scripts: {
      allow: defineScript({
        NUMBER_OF_KEYS: 1,
        SCRIPT: `local now = tonumber(ARGV[1]) redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
          if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
          redis.call('ZADD', KEYS[1], now, ARGV[1] .. ':' .. redis.call('INCR', KEYS[1] .. ':n')) redis.call('PEXPIRE', KEYS[1], ARGV[2] + 60000) return 1`,
        parseCommand(parser, key, now, window, limit) {
          parser.pushKey(key);
          parser.push(String(now), String(window), String(limit));
        },
        transformReply: (reply) => reply === 1,
      }),
    },
  });
  const allowed = [];
  for (let t = 0; t < 30; t++) allowed.push(await redis.allow("rate:ada", 1000 + t * 10, 100, 5));
  assert.deepEqual(allowed.map(Number).join(""), "111110000011111000001111100000");
  redis.destroy();
}

// Money moves between accounts by WATCH, MULTI and EXEC from many sides at once; none is made or lost.
async function transactions() {
  const pool = await createClientPool({ url }, { minimum: 1, maximum: 5 }).on("error", fail).connect();
  await pool.mSet({ "account:0": "100", "account:1": "100", "account:2": "100" });
  let retries = 0;
  const move = (from, to, amount) => pool.execute(async (client) => {
    for (;;) {
      await client.watch([`account:${from}`, `account:${to}`]);
      const [a, b] = (await client.mGet([`account:${from}`, `account:${to}`])).map(Number);
      try {
        await client.multi().set(`account:${from}`, a - amount).set(`account:${to}`, b + amount).exec();
        return;
      } catch (error) {
        assert.equal(error.constructor.name, "WatchError");
        retries++;
      }
    }
  });
  await Promise.all(Array.from({ length: 60 }, (_, i) => move(i % 3, (i + 1 + (i % 2)) % 3, 1 + (i % 7))));
  const sum = (await pool.mGet(["account:0", "account:1", "account:2"])).map(Number).reduce((x, y) => x + y, 0);
  assert.equal(sum, 300);
  pool.destroy();
}

// The client keeps what it has read, and forgets it when somebody else changes it.
async function caching(redis) {
  const { BasicClientSideCache } = require("@redis/client/dist/lib/client/cache");
  const cache = new BasicClientSideCache({ ttl: 0, maxEntries: 0, recordStats: true });
  const own = await connect({ clientSideCache: cache });
  await redis.set("price", "10");
  for (let i = 0; i < 50; i++) assert.equal(await own.get("price"), "10");
  assert.deepEqual([cache.stats().hitCount, cache.stats().missCount], [49, 1]);
  await redis.set("price", "11");
  await until(async () => (await own.get("price")) === "11", "an invalidation");
  await redis.hSet("stock", "apples", "3");
  assert.equal(await own.hGet("stock", "apples"), "3");
  await redis.flushDb();
  await until(async () => (await own.hGet("stock", "apples")) === null, "an invalidation of everything");
  own.destroy();
}

(async () => {
  const redis = await connect();
  for (const work of [streams, messages, locks, sessions, rateLimit, transactions, caching]) await work(redis);
  redis.destroy();
  console.log("done");
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
