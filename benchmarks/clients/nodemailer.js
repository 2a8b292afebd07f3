// nodemailer: a pool of one connection. The arguments are a job (see worker.py) and the Python that
// makes the messages.

"use strict";

const { execFileSync } = require("node:child_process");
const readline = require("node:readline");
const nodemailer = require("nodemailer");

const job = JSON.parse(process.argv[2]);

function prepared() {
  const command = ["-m", "benchmarks.messages", String(job.count), String(job.size)];
  const lines = execFileSync(process.argv[3], command, { maxBuffer: Infinity });
  return lines.toString().trimEnd().split("\n").map((line) => {
    const [from, to, content] = JSON.parse(line);
    return { envelope: { from, to }, raw: Buffer.from(content) };
  });
}

async function send(transport, messages) {
  let accepted = 0;
  for (const message of messages) {
    const info = await transport.sendMail(message);
    accepted += info.accepted.length;
  }
  return accepted;
}

async function main() {
  const messages = prepared();
  const transport = nodemailer.createTransport({
    host: "127.0.0.1",
    port: job.port,
    name: "client.example",
    pool: true,
    maxConnections: 1,
    maxMessages: Infinity,
    ignoreTLS: true,
  });
  // The pool connects to send and not before, so a first message opens the connection.
  await send(transport, messages.slice(0, 1));
  const input = readline.createInterface({ input: process.stdin });
  console.log("ready");
  const word = await new Promise((resolve) => {
    input.once("line", resolve);
    input.once("close", () => resolve(null)); // nobody is there to give it
  });
  if (word === null) process.exit(1);
  const cpu = process.cpuUsage();
  const began = process.hrtime.bigint();
  const accepted = await send(transport, messages);
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  const used = process.cpuUsage(cpu);
  console.log(JSON.stringify({ seconds, cpu: (used.user + used.system) / 1e6, accepted }));
  transport.close();
  input.close();
}

main();
