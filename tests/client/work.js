// SPDX-License-Identifier: BSD-3-Clause
// ioredis doing real work on the server whose port is the first argument. Ends with status 0 and "done" if all
// of it went as it should.
"use strict";
const assert = require("node:assert");
const Redis = require("ioredis");

const port = Number(process.argv[2]);
const connect = (options = {}) => new Redis({ port, host: "127.0.0.1", maxRetriesPerRequest: 1, ...options });

async function strings(redis) {
  assert.equal(await redis.set("k", "v", "EX", 100, "NX"), "OK");
  assert.equal(await redis.set("k", "w", "NX"), null);
  assert.equal(await redis.get("k"), "v");
  assert.ok((await redis.ttl("k")) > 90);
  await redis.mset(new Map([["a", "1"], ["b", "2"]]));
  assert.deepEqual(await redis.mget("a", "b", "none"), ["1", "2", null]);
  const binary = Buffer.from([0, 13, 10, 255, 128]);
  await redis.set(binary, binary);
  assert.deepEqual(await redis.getBuffer(binary), binary);
  await assert.rejects(redis.lpush("k", "x"), /WRONGTYPE/);
}

async function pipelines(redis) {
  const pipeline = redis.pipeline();
  for (let i = 0; i < 3000; i++) pipeline.hset(`user:${i % 300}`, { [`f${i}`]: i, name: `n${i}` });
  const replies = await pipeline.exec();
  assert.equal(replies.length, 3000);
  assert.ok(replies.every(([error, reply]) => error === null && (reply === 1 || reply === 2)));
  const user = await redis.hgetall("user:7");
  assert.equal(Object.keys(user).length, 11);
  assert.equal(user.name, "n2707");
}

async function transactions(redis, other) {
  assert.deepEqual(await redis.multi().set("t", 1).incr("t").get("t").exec(), [[null, "OK"], [null, 2], [null, "2"]]);
  await redis.watch("t");
  await other.incr("t");
  assert.equal(await redis.multi().set("t", 100).exec(), null);
  assert.equal(await redis.get("t"), "3");
  // Twenty counters in a row, each a retried optimistic transaction on one of two connections.
  const add = async (client) => {
    for (;;) {
      await client.watch("t");
      const value = Number(await client.get("t"));
      if (await client.multi().set("t", value + 1).exec()) return;
    }
  };
  for (let i = 0; i < 20; i++) await Promise.all([add(redis), add(other)]);
  assert.equal(await redis.get("t"), "43");
}

async function leaderboard(redis) {
  for (let i = 0; i < 500; i++) redis.zadd("board", i % 50, `p${i}`);
  assert.equal(await redis.zcard("board"), 500);
  assert.deepEqual(await redis.zrange("board", 0, 1, "WITHSCORES"), ["p0", "0", "p100", "0"]);
  assert.deepEqual(await redis.zrevrange("board", 0, 0), ["p99"]);
  assert.equal(await redis.zincrby("board", 1000, "p77"), "1027");
  assert.equal(await redis.zrevrank("board", "p77"), 0);
  assert.equal((await redis.zrangebyscore("board", 10, "(11")).length, 10);
}

async function scans(redis) {
  await redis.flushdb();
  await Promise.all(Array.from({ length: 1000 }, (_, i) => redis.set(`key:${i}`, i)));
  await redis.sadd("members", ...Array.from({ length: 1000 }, (_, i) => i));
  const seen = new Set();
  for await (const keys of redis.scanStream({ match: "key:*", count: 37 })) keys.forEach((k) => seen.add(k));
  assert.equal(seen.size, 1000);
  const members = new Set();
  for await (const some of redis.sscanStream("members")) some.forEach((m) => members.add(m));
  assert.equal(members.size, 1000);
}

// A script as a command of its own: by its SHA-1, and as a whole when the server does not know it; also in pipelines.
async function scripts(redis) {
  await redis.script("FLUSH");
  redis.defineCommand("limit", {
    numberOfKeys: 1,
    lua: "local n=redis.call('incr',KEYS[1]) if n==1 then redis.call('pexpire',KEYS[1],ARGV[2]) end " +
      "return n<=tonumber(ARGV[1]) and 1 or 0",
  });
  const allowed = [];
  for (let i = 0; i < 5; i++) allowed.push(await redis.limit("rate", 3, 60000));
  assert.deepEqual(allowed, [1, 1, 1, 0, 0]);
  assert.ok((await redis.pttl("rate")) > 0);
  await redis.script("FLUSH");
  const replies = await redis.pipeline().limit("other", 1, 60000).limit("other", 1, 60000).exec();
  assert.deepEqual(replies, [[null, 1], [null, 0]]);
  assert.equal(await redis.get("other"), "2");
  assert.deepEqual(await redis.eval("return {KEYS[1],ARGV[1],{1,2},false}", 1, "k", "a"), ["k", "a", [1, 2], null]);
  await redis.function("LOAD", "REPLACE", "#!lua name=work\nserver.register_function('add',function(k,a) " +
    "return redis.call('incrby',k[1],a[1]) end)");
  assert.equal(await redis.fcall("add", 1, "sum", 5), 5);
  await redis.function("DELETE", "work");
}

async function queue(redis, other) {
  await redis.rpush("queue", ...Array.from({ length: 200 }, (_, i) => i));
  const taken = await Promise.all(Array.from({ length: 200 }, (_, i) => (i % 2 ? redis : other).lpop("queue")));
  assert.deepEqual(taken.map(Number).sort((a, b) => a - b), Array.from({ length: 200 }, (_, i) => i));
  assert.equal(await redis.lpop("queue"), null);
}

// Workers that wait for jobs, each with a connection of its own, as job queues have it: a job moves from the
// waiting to the active list, and is done when it is taken out of there. A scheduler takes delayed ones.
async function workers(redis) {
  const done = [];
  const work = async () => {
    const own = redis.duplicate();
    for (;;) {
      const job = await own.blmove("jobs", "active", "RIGHT", "LEFT", 0);
      if (job === "stop") break;
      done.push(job);
      await own.multi().lrem("active", 1, job).incr("count").exec();
    }
    await own.quit();
  };
  const schedule = async () => {
    const own = redis.duplicate();
    for (;;) {
      const [, job] = await own.bzpopmin("delayed", 0);
      if (job === "stop") break;
      await own.lpush("jobs", job);
    }
    await own.quit();
  };
  const running = [schedule(), ...Array.from({ length: 5 }, work)];
  for (let i = 0; i < 100; i++) {
    if (i % 3 == 0) await redis.zadd("delayed", i, `delayed ${i}`);
    else await redis.lpush("jobs", `job ${i}`);
  }
  await redis.zadd("delayed", 1000, "stop");
  await running.shift();
  await redis.lpush("jobs", ...running.map(() => "stop"));
  await Promise.all(running);
  assert.equal(done.length, 100);
  assert.equal(new Set(done).size, 100);
  assert.equal(await redis.get("count"), "100");
  assert.deepEqual(await redis.lrange("active", 0, -1), running.map(() => "stop"));
  assert.equal(await redis.blpop("nothing", 0.01), null);
}

async function expiry(redis) {
  await redis.set("soon", 1, "PX", 80);
  await redis.psetex("later", 60000, 1);
  await new Promise((resolve) => setTimeout(resolve, 120));
  assert.equal(await redis.exists("soon", "later"), 1);
}

async function main() {
  const redis = connect({ db: 2, connectionName: "worker" });
  const other = connect({ db: 2 });
  // ioredis asks INFO whether the server is ready before it sends anything.
  assert.match(await redis.client("LIST"), /name=worker/);
  assert.match(await redis.info(), /redis_version:/);
  for (const work of [strings, pipelines, transactions, leaderboard, scans, queue, scripts, workers, expiry]) await work(redis, other);
  const database0 = connect();
  assert.equal(await database0.dbsize(), 0);
  await Promise.all([redis.quit(), other.quit(), database0.quit()]);
  console.log("done");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
