// OpenAI's Node client against a running pipeline. Prints one JSON object per case; all cases run
// in this one process, one after the other. See test_node.py, which starts it and reads them.
import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const env = process.env;
const model = env.PENSTOCK_MODEL;
const client = make();
const messages = [{ role: "user", content: "Tell me about the river." }];
const chat = { model, messages, max_tokens: 12 };
const said = { model, input: messages[0].content, max_output_tokens: 12 };
const hangs = "[[fault:hang=2]] Tell me about the river.";
const fails = "[[fault:error=2]] Tell me about the river.";

function make(options = {}) {
  return new OpenAI({
    baseURL: env.PENSTOCK_URL,
    apiKey: env.PENSTOCK_KEY,
    maxRetries: 0,
    timeout: 20_000,
    ...options,
  });
}

async function listed(values) {
  const found = [];
  for await (const value of values) found.push(value);
  return found;
}

async function refused(promise, kind, code) {
  const error = await promise.then(
    () => assert.fail("it was not refused"),
    (raised) => raised,
  );
  assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
  if (code) assert.equal(error.code, code);
  return error;
}

const cases = {
  async "a chat is answered whole and in chunks"() {
    const whole = await client.chat.completions.create(chat);
    const text = whole.choices[0].message.content;
    assert.ok(text.length > 0);
    const options = { include_usage: true };
    const stream = await client.chat.completions.create({
      ...chat,
      stream: true,
      stream_options: options,
    });
    const chunks = await listed(stream);
    assert.equal(chunks.map((one) => one.choices[0]?.delta.content ?? "").join(""), text);
    assert.deepEqual(chunks.at(-1).usage, whole.usage);
  },

  async "the stream reader of chats puts the answer together"() {
    const asked = { ...chat, max_tokens: 300 };
    const whole = await client.chat.completions.create(asked);
    const stream = client.chat.completions.stream(asked);
    let text = "";
    stream.on("content", (delta) => (text += delta));
    const final = await stream.finalChatCompletion();
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(final.choices[0].message.content, text);
  },

  async "a text is continued whole and in chunks"() {
    const asked = { model, prompt: "The mill", max_tokens: 9 };
    const whole = await client.completions.create(asked);
    const chunks = await listed(await client.completions.create({ ...asked, stream: true }));
    assert.equal(chunks.map((one) => one.choices[0].text).join(""), whole.choices[0].text);
  },

  async "models are listed and read"() {
    const models = await listed(client.models.list());
    assert.deepEqual(models.map((one) => one.id), [model, env.PENSTOCK_EMBEDDER]);
    assert.equal((await client.models.retrieve(model)).owned_by, "penstock");
  },

  async "a response is answered, streamed and read again"() {
    const whole = await client.responses.create(said);
    assert.ok(whole.output_text.length > 0);
    const events = await listed(await client.responses.create({ ...said, stream: true }));
    assert.deepEqual(events.map((one) => one.sequence_number), [...events.keys()]);
    const last = events.at(-1).response;
    const read = await client.responses.retrieve(last.id);
    assert.equal(read.output_text, whole.output_text);
    assert.deepEqual(read.output, last.output);
    const options = { stream: true, starting_after: 4 };
    const rest = await listed(await client.responses.retrieve(last.id, options));
    assert.deepEqual(rest, events.slice(5));
  },

  async "the stream reader of responses puts the answer together"() {
    const whole = await client.responses.create(said);
    const stream = client.responses.stream(said);
    let text = "";
    stream.on("response.output_text.delta", (event) => (text += event.delta));
    const final = await stream.finalResponse();
    assert.equal(text, whole.output_text);
    assert.deepEqual(final.output[0].content[0].text, text);
  },

  async "a conversation goes on and its items are listed"() {
    const first = await client.responses.create(said);
    const second = await client.responses.create({ ...said, previous_response_id: first.id });
    const query = { limit: 2, order: "asc" };
    const items = await listed(client.responses.inputItems.list(second.id, query));
    assert.deepEqual(items.map((one) => one.role), ["user", "assistant", "user"]);
  },

  async "a background response is polled, cancelled and deleted"() {
    const started = await client.responses.create({ ...said, input: hangs, background: true });
    assert.equal(started.status, "queued");
    await refused(client.responses.delete(started.id), OpenAI.ConflictError, "job_conflict");
    assert.equal((await client.responses.cancel(started.id)).status, "cancelled");
    await client.responses.delete(started.id);
    await refused(client.responses.retrieve(started.id), OpenAI.NotFoundError);
  },

  async "texts are embedded"() {
    const asked = { model: env.PENSTOCK_EMBEDDER, input: ["The mill", "a river"] };
    const packed = await client.embeddings.create(asked);
    const plain = await client.embeddings.create({ ...asked, encoding_format: "float" });
    assert.equal(packed.data.length, 2);
    assert.deepEqual(
      packed.data.map((one) => [...one.embedding]),
      plain.data.map((one) => one.embedding),
    );
    assert.equal(plain.usage.total_tokens, 4);
  },

  async "a batch is uploaded, run and its results fetched"() {
    const lines = ["one", "two"].map((content, number) =>
      JSON.stringify({
        custom_id: `line ${number}`,
        method: "POST",
        url: "/v1/chat/completions",
        body: { ...chat, messages: [{ role: "user", content }] },
      }),
    );
    const content = await toFile(Buffer.from(lines.join("\n")), "in.jsonl");
    const file = await client.files.create({ file: content, purpose: "batch" });
    assert.equal((await client.files.retrieve(file.id)).id, file.id);
    const files = await listed(client.files.list({ purpose: "batch" }));
    assert.ok(files.some((one) => one.id === file.id));
    let batch = await client.batches.create({
      input_file_id: file.id,
      endpoint: "/v1/chat/completions",
      completion_window: "24h",
    });
    for (let tries = 0; batch.status !== "completed" && tries < 300; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      batch = await client.batches.retrieve(batch.id);
    }
    assert.equal(batch.request_counts.completed, 2);
    const output = await (await client.files.content(batch.output_file_id)).text();
    const results = output.trim().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(results.map((one) => one.custom_id).sort(), ["line 0", "line 1"]);
    const batches = await listed(client.batches.list());
    assert.ok(batches.some((one) => one.id === batch.id));
    assert.equal((await client.batches.cancel(batch.id).catch((error) => error)).status, 409);
    assert.ok((await client.files.delete(file.id)).deleted);
    await refused(client.files.retrieve(file.id), OpenAI.NotFoundError, "file_not_found");
  },

  async "raw responses show headers and body"() {
    const asked = client.chat.completions.create(chat);
    const { data, response } = await asked.withResponse();
    assert.match(response.headers.get("x-penstock-job"), /^job_/);
    assert.equal(data._request_id, response.headers.get("x-request-id"));
    const raw = await client.chat.completions.create(chat).asResponse();
    assert.equal((await raw.json()).object, "chat.completion");
  },

  async "errors are the client's exceptions"() {
    const create = (more) => client.chat.completions.create({ ...chat, ...more });
    const bad = await refused(create({ temperature: 9 }), OpenAI.BadRequestError, "invalid_job");
    assert.equal(bad.param, "temperature");
    assert.ok(bad.requestID);
    await refused(create({ web_search_options: {} }), OpenAI.BadRequestError, "unsupported_parameter");
    await refused(create({ model: "x" }), OpenAI.NotFoundError, "model_not_found");
    const failed = create({ messages: [{ role: "user", content: fails }] });
    await refused(failed, OpenAI.InternalServerError, "engine_error");
    const embedding = client.embeddings.create({ model, input: "x" });
    await refused(embedding, OpenAI.BadRequestError, "unsupported_model");
    const stranger = make({ apiKey: "pk_wrong" }).models.list();
    await refused(stranger, OpenAI.AuthenticationError, "invalid_api_key");
    const viewer = make({ apiKey: env.PENSTOCK_VIEWER }).chat.completions.create(chat);
    await refused(viewer, OpenAI.PermissionDeniedError);
    await refused(
      client.responses.create({ ...said, conversation: "c" }),
      OpenAI.BadRequestError,
      "unsupported_parameter",
    );
  },

  async "an idempotency key gives one job and refuses another body"() {
    const headers = { "Idempotency-Key": `node-${Date.now()}` };
    const create = (more) => client.chat.completions.create({ ...chat, ...more }, { headers });
    const [first, second] = [await create({}).asResponse(), await create({}).asResponse()];
    const job = "x-penstock-job";
    assert.equal(first.headers.get(job), second.headers.get(job));
    const other = create({ max_tokens: 5 });
    await refused(other, OpenAI.UnprocessableEntityError, "idempotency_mismatch");
  },

  async "a limit is a rate limit error, and the client's own retry gets through"() {
    const limited = make({ apiKey: env.PENSTOCK_LIMITED });
    const flood = async () => {
      for (let count = 0; count < 200; count++) await limited.chat.completions.create(chat);
    };
    const error = await refused(flood(), OpenAI.RateLimitError, "rate_limit_exceeded");
    assert.ok(Number(error.headers.get("retry-after")) >= 1);
    const patient = make({ apiKey: env.PENSTOCK_LIMITED, maxRetries: 3 });
    assert.ok((await patient.chat.completions.create(chat)).choices.length);
  },

  async "a failed job is not repeated by the client"() {
    const patient = make({ apiKey: env.PENSTOCK_FAILING, maxRetries: 3 });
    const asked = { ...chat, messages: [{ role: "user", content: fails }] };
    await refused(patient.chat.completions.create(asked), OpenAI.InternalServerError);
    assert.equal((await patient.get("/jobs")).data.length, 1);
  },

  async "a client that waits no longer raises, and its job is cancelled"() {
    const leaving = make({ apiKey: env.PENSTOCK_LEAVING });
    const asked = { ...chat, messages: [{ role: "user", content: hangs }] };
    const options = { timeout: 500 };
    const waiting = leaving.chat.completions.create(asked, options);
    await refused(waiting, OpenAI.APIConnectionTimeoutError);
    const [job] = (await leaving.get("/jobs?limit=1")).data;
    assert.equal((await leaving.get(`/jobs/${job.id}?wait=10`)).status, "cancelled");
  },

  async "a stream that was left is aborted"() {
    const stream = await client.chat.completions.create({ ...chat, max_tokens: 5000, stream: true });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
    assert.ok(stream.controller.signal.aborted);
  },

  async "no server is a connection error"() {
    const nowhere = make({ baseURL: "http://127.0.0.1:9/v1" });
    await refused(nowhere.models.list(), OpenAI.APIConnectionError);
  },
};

for (const [name, run] of Object.entries(cases)) {
  const error = await run().then(() => null, (raised) => String(raised?.stack ?? raised));
  console.log(JSON.stringify({ name, error }));
}
