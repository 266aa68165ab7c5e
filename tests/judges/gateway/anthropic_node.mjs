// Anthropic's SDK for JavaScript: a plain turn, a streamed one, one with a tool, structured output, the list of models.
import assert from "node:assert";
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: process.env.GATEWAY, apiKey: process.env.KEY, maxRetries: 0 });
const model = process.env.MODEL;
const HELLO = "Hello! I am a small program on your own machine";
const user = (content) => [{ role: "user", content }];
const text = (message) => message.content.filter((block) => block.type === "text").map((block) => block.text).join("");
const asked = { model, max_tokens: 200 };

const plain = await client.messages.create({ ...asked, system: "Be brief.", messages: user("Say hello.") });
assert.equal(plain.stop_reason, "end_turn");
assert(text(plain).includes(HELLO));

let pieces = 0;
const stream = client.messages.stream({ ...asked, messages: user("Say hello.") }).on("text", () => (pieces += 1));
assert(text(await stream.finalMessage()).includes(HELLO));
assert(pieces > 10, `${pieces} pieces`);

const input_schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ name: "get_weather", description: "Weather", input_schema }];
const messages = user("What is the weather in Paris and London?");
const called = await client.messages.stream({ ...asked, tools, messages }).finalMessage();
assert.equal(called.stop_reason, "tool_use");
const results = called.content.filter((block) => block.type === "tool_use");
assert.deepEqual(results.map((block) => block.input), [{ city: "Paris" }, { city: "London" }]);
const told = results.map((block) => ({ type: "tool_result", tool_use_id: block.id, content: `sunny in ${block.input.city}` }));
messages.push({ role: "assistant", content: called.content }, { role: "user", content: told });
const after = await client.messages.create({ ...asked, tools, messages });
assert(text(after).includes("sunny in Paris and sunny in London"), text(after));

const schema = { type: "object", properties: { name: { type: "string" }, age: { type: "integer" } }, required: ["name", "age"], additionalProperties: false };
const format = { type: "json_schema", schema };
const person = await client.messages.create({ ...asked, messages: user("Give me a person as JSON."), output_config: { format } });
assert.deepEqual(JSON.parse(text(person)), { name: "Ada", age: 36 });

const listed = [];
for await (const each of client.models.list()) listed.push(each.id);
assert(listed.includes(model), listed.join());
console.log(`anthropic: ${text(plain).slice(0, 40)}`);
