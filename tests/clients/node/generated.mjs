// Calls the API with the client that hey-api generated; started by test_generators.py.
import { createRequire } from "node:module";

const sdk = createRequire(import.meta.url)(process.env.GENERATED);
const { client } = createRequire(import.meta.url)(`${process.env.GENERATED}/client.gen.js`);
client.setConfig({
  baseUrl: process.env.PENSTOCK_URL,
  headers: { Authorization: `Bearer ${process.env.PENSTOCK_KEY}` },
});
const model = process.env.PENSTOCK_MODEL;
const chat = await sdk.createChatCompletionV1ChatCompletionsPost({
  body: { model, max_tokens: 4, messages: [{ role: "user", content: "Hello" }] },
});
const job = await sdk.submitJobV1JobsPost({
  headers: { Prefer: "wait=20" },
  body: { url: "/v1/completions", body: { model, prompt: "Hello", max_tokens: 4 } },
});
const refused = await sdk.readJobV1JobsJobIdGet({ path: { job_id: "job_x" } });
console.log(
  JSON.stringify({
    tokens: chat.data.usage.completion_tokens,
    status: job.data.status,
    code: refused.error.code,
  }),
);
