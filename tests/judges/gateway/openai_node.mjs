// OpenAI's SDK for JavaScript: a plain turn, a streamed one, one with a tool, structured output; chat and responses.
import assert from "node:assert";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.GATEWAY}/v1`, apiKey: process.env.KEY, maxRetries: 0 });
const model = process.env.MODEL;
const HELLO = "Hello! I am a small program on your own machine";
const user = (content) => [{ role: "user", content }];
const schema = { type: "object", properties: { name: { type: "string" }, age: { type: "integer" } }, required: ["name", "age"], additionalProperties: false };
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };

const plain = await client.chat.completions.create({ model, messages: user("Say hello.") });
assert(plain.choices[0].message.content.includes(HELLO));

let text = "";
for await (const chunk of await client.chat.completions.create({ model, messages: user("Say hello."), stream: true }))
  text += chunk.choices[0]?.delta?.content ?? "";
assert(text.includes(HELLO));

const runner = client.chat.completions.runTools({
  model, messages: user("What is the weather in Paris and London?"),
  tools: [{ type: "function", function: { name: "get_weather", description: "Weather", parameters, parse: JSON.parse, function: ({ city }) => `sunny in ${city}` } }],
});
assert((await runner.finalContent()).includes("sunny in Paris and sunny in London"));

const response_format = { type: "json_schema", json_schema: { name: "person", schema, strict: true } };
const parsed = await client.chat.completions.parse({ model, messages: user("Give me a person as JSON."), response_format });
assert.deepEqual(JSON.parse(parsed.choices[0].message.content), { name: "Ada", age: 36 });

const response = await client.responses.create({ model, input: "Say hello." });
assert(response.output_text.includes(HELLO));
console.log(`openai: ${response.output_text.slice(0, 40)}`);
