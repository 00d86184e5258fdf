// SPDX-License-Identifier: BSD-3-Clause
// ioredis through Sentinel: writes node:0, node:1, ... one after another until its standard input ends, and says how
// far it is ten times a second. Arguments: the primary's name, the sentinels' ports.
"use strict";
const Redis = require("ioredis");

const [name, ...ports] = process.argv.slice(2);
const redis = new Redis({
  sentinels: ports.map((port) => ({ host: "127.0.0.1", port: Number(port) })),
  name,
  maxRetriesPerRequest: null,
  commandTimeout: 2000,
  retryStrategy: () => 20,
  sentinelRetryStrategy: () => 20,
  // A primary that has become a replica: connect anew, and send the command again.
  reconnectOnError: (error) => (error.message.startsWith("READONLY") ? 2 : false),
});
redis.on("error", () => {});

let written = 0, last = Date.now(), stopping = false;
const gaps = [];
const say = () => process.stdout.write(JSON.stringify({ written, gaps }) + "\n");
process.stdin.resume();
process.stdin.on("end", () => (stopping = true));

(async () => {
  const timer = setInterval(say, 100);
  while (!stopping) {
    try {
      await redis.set(`node:${written}`, written);
      written++;
      if (Date.now() - last > 300) gaps.push(Date.now() - last);
      last = Date.now();
      await new Promise((resolve) => setTimeout(resolve, 2));
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
  clearInterval(timer);
  say();
  redis.disconnect();
})();
