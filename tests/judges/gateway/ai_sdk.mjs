// The AI SDK, through its providers for OpenAI (both APIs) and Anthropic: a plain turn, a streamed one, a tool, structured output.
import assert from "node:assert";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const settings = { baseURL: `${process.env.GATEWAY}/v1`, apiKey: process.env.KEY };
const openai = createOpenAI(settings);
const HELLO = "Hello! I am a small program on your own machine";
const name = process.env.MODEL;

for (const model of [openai.chat(name), openai.responses(name), createAnthropic(settings)(name)]) {
  const plain = await generateText({ model, prompt: "Say hello.", maxRetries: 0 });
  assert(plain.text.includes(HELLO));
  assert((await streamText({ model, prompt: "Say hello.", maxRetries: 0 }).text).includes(HELLO));
  const get_weather = tool({ description: "Weather", inputSchema: z.object({ city: z.string() }), execute: ({ city }) => `sunny in ${city}` });
  const told = await generateText({ model, prompt: "What is the weather in Paris and London?", tools: { get_weather }, stopWhen: stepCountIs(3), maxRetries: 0 });
  assert(told.text.includes("sunny in Paris"), told.text);
  const output = Output.object({ schema: z.object({ name: z.string(), age: z.number() }) });
  const asked = model.provider.startsWith("anthropic") ? 'Call json with {"name": "Ada", "age": 36}; JSON.' : "Give me a person as JSON.";
  const person = await generateText({ model, prompt: asked, output, experimental_output: output, maxRetries: 0 });
  assert.deepEqual(person.output ?? person.experimental_output, { name: "Ada", age: 36 });
}
console.log("ai: all");
