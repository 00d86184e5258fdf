// SPDX-License-Identifier: BSD-3-Clause
// BullMQ: a queue with workers, as applications have it. Its scripts are large, use cjson, cmsgpack, sorted sets, streams and hashes,
// and block on a sorted set. Usage: node jobs.js PORT
const assert = require("node:assert/strict");
const { FlowProducer, Queue, QueueEvents, Worker } = require("bullmq");

const connection = { host: "127.0.0.1", port: Number(process.argv[2]), db: 1, maxRetriesPerRequest: null };
const options = { connection };

async function until(condition, what) {
  const end = Date.now() + 120000;
  while (!(await condition())) {
    assert.ok(Date.now() < end, `${what} took too long`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// Two hundred jobs, two workers with four at a time each: every job is done once, delayed ones not before their time, failing
// ones again until they succeed, or are given up after three attempts.
async function ordinary() {
  const queue = new Queue("mail", options);
  const events = new QueueEvents("mail", options);
  await events.waitUntilReady();
  const completed = new Map();
  events.on("completed", ({ jobId, returnvalue }) => completed.set(jobId, returnvalue));
  const attempts = new Map();
  const early = [];
  const handler = async (job) => {
    attempts.set(job.id, (attempts.get(job.id) ?? 0) + 1);
    if (job.opts.delay && Date.now() < job.timestamp + job.opts.delay) early.push(job.id);
    if (job.name === "flaky" && job.attemptsMade < 2) throw new Error("not yet");
    if (job.name === "broken") throw new Error("never");
    await job.updateProgress(50);
    await job.log(`sent to ${job.data.to}`);
    return { sent: job.data.to };
  };
  const workers = [0, 1].map(() => new Worker("mail", handler, { ...options, concurrency: 4 }));
  const jobs = await queue.addBulk(Array.from({ length: 180 }, (_, i) => ({ name: "letter", data: { to: i } })));
  for (let i = 0; i < 10; i++) jobs.push(await queue.add("letter", { to: `late ${i}` }, { delay: 100 + 20 * i }));
  for (let i = 0; i < 10; i++) jobs.push(await queue.add("flaky", { to: `flaky ${i}` }, { attempts: 3, backoff: { type: "fixed", delay: 20 } }));
  const broken = await queue.add("broken", {}, { attempts: 3, backoff: { type: "fixed", delay: 10 } });
  await until(() => completed.size === 200, "200 jobs");
  await until(() => broken.isFailed(), "giving up");
  assert.equal(attempts.get(broken.id), 3);
  for (const job of jobs) {
    assert.equal(attempts.get(job.id), job.name === "flaky" ? 3 : 1, `attempts of ${job.name}`);
    assert.deepEqual(completed.get(job.id), { sent: job.data.to });
  }
  assert.deepEqual(early, []);
  assert.deepEqual((await queue.getJobLogs(jobs[5].id)).logs, ["sent to 5"]);
  assert.deepEqual(await queue.getJobCounts("completed", "failed", "active", "delayed"), { completed: 200, failed: 1, active: 0, delayed: 0 });
  await queue.clean(0, 1000, "completed");
  assert.equal(await queue.getCompletedCount(), 0);
  await broken.retry();
  await until(async () => (await queue.getFailedCount()) === 1 && (await queue.getActiveCount()) === 0, "a retry");
  await Promise.all(workers.map((worker) => worker.close()));
  await events.close();
  await queue.obliterate({ force: true });
  await queue.close();
}

// Priorities, a rate limit, a repeated job, pausing, and jobs that depend on others.
async function special() {
  const queue = new Queue("press", options);
  await queue.pause();
  const order = [];
  for (const priority of [5, 1, 3, 2, 4]) await queue.add("page", { priority }, { priority });
  assert.equal(await queue.getPrioritizedCount(), 5);
  await queue.resume();
  let worker = new Worker("press", async (job) => order.push(job.data.priority), options);
  await until(() => order.length === 5, "prioritised jobs");
  assert.deepEqual(order, [1, 2, 3, 4, 5]);
  await worker.close();

  const times = [];
  worker = new Worker("press", async () => times.push(Date.now()), { ...options, limiter: { max: 2, duration: 1000 } });
  await queue.addBulk(Array.from({ length: 5 }, () => ({ name: "slow", data: {} })));
  await until(() => times.length === 5, "jobs within a rate");
  assert.ok(times[4] - times[0] >= 1200, `5 jobs at 2 in 1000 ms took ${times[4] - times[0]} ms`);
  await worker.close();

  let runs = 0;
  await queue.upsertJobScheduler("clock", { every: 50, limit: 3 }, { name: "tick" });
  worker = new Worker("press", async (job) => (runs += job.name === "tick"), options);
  await until(() => runs === 3, "a repeated job");
  await worker.close();

  const flow = new FlowProducer(options);
  const tree = await flow.add({
    name: "sum", queueName: "press", data: {},
    children: [1, 2, 3].map((n) => ({ name: "number", queueName: "parts", data: { n } })),
  });
  let sum = 0;
  const parts = new Worker("parts", async (job) => job.data.n * 10, options);
  worker = new Worker("press", async (job) => {
    if (job.name === "sum") sum = Object.values(await job.getChildrenValues()).reduce((a, b) => a + b, 0);
  }, options);
  await until(() => tree.job.isCompleted(), "a flow");
  assert.equal(sum, 60);
  await Promise.all([parts.close(), worker.close(), flow.close()]);
  await queue.close();
}

(async () => {
  await ordinary();
  await special();
  console.log("done");
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
