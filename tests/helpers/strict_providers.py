"""Providers with habits, as servers that refuse what their vendors refuse, and record why. One server has them all.

Each rule has its source: the vendor's own types (package and version on PyPI), its pages, or refusals that users met.
"""

from __future__ import annotations

import contextlib
import json
import re
import socketserver
import threading
from dataclasses import dataclass, field
from itertools import count, pairwise

from judges.dialects.common import listed

from helpers import strict_rules as rules
from helpers.strict_answers import COHERE, GENERATE, MESSAGES, RESPONSES, Answer, Chat

NAME = "[a-zA-Z0-9_-]{1,64}"


# ------------------------------------------------------------------ how they refuse


def openai_error(text):
    return 400, {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}}


def mistral_error(text):
    if "Extra inputs" in text or "unsupported" in text:
        return 422, {"detail": [{"type": "extra_forbidden", "loc": ["body"], "msg": text, "input": None}]}
    return 400, {
        "object": "error",
        "message": text,
        "type": "invalid_request_message_order",
        "param": None,
        "code": "3230",
    }


def minimax_error(text):
    told = {"type": "bad_request_error", "message": f"invalid params, {text} (2013)", "http_code": "400"}
    return 400, {"type": "error", "error": told, "request_id": "1"}


def zai_error(text):
    return 400, {"error": {"code": "1214", "message": text}}


def cerebras_error(text):
    return 400, {
        "message": text,
        "type": "invalid_request_error",
        "param": "validation_error",
        "code": "wrong_api_format",
    }


def xai_error(text):
    return 400, {"code": "Client specified an invalid argument", "error": f"Invalid request content: {text}"}


def mimo_error(text):
    return 400, {"error": {"code": "400", "message": "Param Incorrect", "param": text, "type": ""}}


def anthropic_error(text):
    return 400, {"type": "error", "error": {"type": "invalid_request_error", "message": text}, "request_id": "1"}


def gemini_error(text):
    return 400, {"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}}


def cohere_error(text):
    return 400, {"id": "1", "message": text}


# ------------------------------------------------------------------ rules of APIs of other shapes


def no_white_space_at_the_end(body, own):
    # platform.claude.com/docs/en/api/errors; "final assistant content cannot end with trailing whitespace".
    text = [block.get("text", "") for block in listed(body["messages"][-1]["content"])][-1]
    ends = body["messages"][-1]["role"] == "assistant" and text != text.rstrip()
    return "final assistant content cannot end with trailing whitespace" if ends else None


def blocks_are_well_named(body, own):
    # String should match pattern '^[a-zA-Z0-9_-]{1,128}$' for tools, '^[a-zA-Z0-9_-]+$' for ids: openai/codex#8174.
    blocks = [block for message in body["messages"] for block in listed(message["content"])]
    found = [("name", block["name"], NAME) for block in blocks if block["type"] == "tool_use"]
    found += [("name", tool["name"], NAME) for tool in body.get("tools", ())]
    found += [("id", block["id"], "[a-zA-Z0-9_-]+") for block in blocks if block["type"] == "tool_use"]
    return rules.first(
        not re.fullmatch(form, text) and f"{key}: String should match pattern {form}" for key, text, form in found
    )


def thinking_comes_back(body, own):
    # "must remain as they were in the original response": platform.claude.com/docs/en/build-with-claude/extended-thinking.
    for message in body["messages"]:
        blocks = listed(message["content"])
        said = next((own[block["id"]] for block in blocks if block["type"] == "tool_use" and block["id"] in own), None)
        back = {key: blocks[0].get(key) for key in said} if said else None
        if back != said:
            return f"thinking blocks cannot be modified: {back!r}"
    return None


def parts_of(body):
    return [(content["role"], content["parts"]) for content in body["contents"]]


def functions_are_well_named(body, own):
    # "Must start with a letter or an underscore", a-z, A-Z, 0-9, _ . : -, at most 64: google-genai 3.6.1, FunctionDeclaration.
    found = [row["name"] for tool in body.get("tools", ()) for row in tool.get("functionDeclarations", ())]
    found += [
        part[key]["name"] for _, parts in parts_of(body) for part in parts for key in part if key.startswith("function")
    ]
    return rules.first(
        not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}", name) and f"Invalid function name {name}" for name in found
    )


def as_many_results_as_calls(body, own):
    # "the number of function response parts is equal to the number of function call parts": google-gemini/gemini-cli#3814.
    waiting = 0
    for _, parts in [*parts_of(body), ("user", [])]:
        results = sum("functionResponse" in part for part in parts)
        if results != waiting:
            return (
                "Please ensure that the number of function response parts is equal to the number of function call parts"
            )
        waiting = sum("functionCall" in part for part in parts)
    return None


def calls_follow_users(body, own):
    # "function call turn comes immediately after a user turn or after a function response turn": ai.google.dev/api/generate-content.
    said = [("start", []), *parts_of(body)]
    wrong = any(
        after == "model" and before != "user" and any("functionCall" in part for part in parts)
        for (before, _), (after, parts) in pairwise(said)
    )
    return "Please ensure that function call turn comes immediately after a user turn" if wrong else None


def signatures_come_back(body, own):
    # "thought signatures must be returned exactly as received": ai.google.dev/gemini-api/docs/thought-signatures.
    return rules.first(
        own.get(part["functionCall"].get("id"), given) != given and f"Thought signature is not valid: {given}"
        for _, parts in parts_of(body)
        for part in parts
        if "functionCall" in part
        for given in [part.get("thoughtSignature")]
    )


def cohere_names(body, own):
    # "contain only letters, numbers and underscores": lobehub/lobehub#4216.
    found = [tool["function"]["name"] for tool in body.get("tools", ())]
    found += [call["function"]["name"] for message in body["messages"] for call in message.get("tool_calls", ())]
    return rules.first(
        not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name) and f"invalid tool name {name}" for name in found
    )


def response_names(body, own):
    # openai 3.57.0, responses/function_tool_param.py; string_above_max_length beyond 64: openai/codex#8174.
    called = [item for item in body["input"] if item.get("type") == "function_call"]
    found = [("name", row["name"], NAME) for row in (*body.get("tools", ()), *called)]
    found += [("call_id", row["call_id"], ".{1,64}") for row in called]
    return rules.first(not re.fullmatch(form, text) and f"Invalid '{key}': {text}" for key, text, form in found)


# ------------------------------------------------------------------ the providers


@dataclass
class Provider:
    """One provider as its vendor runs it.

    api      how it answers
    error    how it refuses
    sees     whether this model takes pictures
    rules    what it refuses, in their order
    own      what it has said
    refused  why it refused, each time
    bodies   what it was sent, as text
    """

    name: str
    model: str
    api: object
    error: object
    rules: tuple
    sees: bool = True
    own: dict = field(default_factory=dict)
    refused: list = field(default_factory=list)
    bodies: list = field(default_factory=list)

    def __str__(self):
        return f"{self.name}/{self.model}"

    def fault(self, body):
        """What is wrong with a body, or None."""
        return rules.first(rule(body, self.own) for rule in self.rules)


# Chat Completions as OpenAI's types have it (openai 3.57.0, types/chat/chat_completion_*_message_param.py); the API refuses
# other keys: "Additional properties are not allowed ('reasoning_content' was unexpected)". A tool's message may have a name
# (OpenAI's cookbook); annotations come with the API's own answers and go back.
OPENAI_KEYS = {
    "system": "role content name",
    "developer": "role content name",
    "user": "role content name",
    "assistant": "role content name refusal audio tool_calls function_call annotations",
    "tool": "role content tool_call_id name",
    "call": "id type function",
}
OPENAI = (
    rules.roles("system", "developer", "user", "assistant", "tool"),
    rules.keys(**OPENAI_KEYS),
    # "string does not match pattern ^[a-zA-Z0-9_-]+$", at most 64: github/copilot-cli#2581.
    rules.names(NAME),
    # "Image URLs are only allowed for messages with role 'user'": OpenHands/OpenHands#7700.
    rules.parts("text", role="tool"),
    rules.parts("text", "refusal", role="assistant"),
    # "must be followed by tool messages responding to each 'tool_call_id'": platform.openai.com/docs/guides/function-calling.
    rules.calls_are_answered,
    # string_above_max_length, at most 40: agno-agi/agno#5382.
    rules.ids(".{1,40}"),
)
# What users of the servers of this family met everywhere: calls without results, and pictures where there are none.
USUAL = (rules.calls_are_answered, rules.parts("text", role="tool"), rules.arguments_are_json)
# mistralai 3.7.0, models/{system,user,assistant,tool}message.py, toolcall.py and chatcompletionrequest.py: 422 extra_forbidden.
MISTRAL_KEYS = {
    "system": "role content",
    "user": "role content",
    "assistant": "role content tool_calls prefix",
    "tool": "role content tool_call_id name",
    "call": "id type function index",
}
MISTRAL_BODY = (
    "model messages temperature top_p max_tokens stream stop random_seed metadata response_format tools tool_choice presence_penalty"
    " frequency_penalty min_tokens repetition_penalty top_k logprobs top_logprobs n prediction parallel_tool_calls reasoning_effort"
    " prompt_mode guardrails safe_prompt"
)
MISTRAL = (
    rules.roles("system", "user", "assistant", "tool"),
    rules.keys("messages.{place}.{role}.{key}: Extra inputs are not permitted", **MISTRAL_KEYS),
    rules.body_keys(MISTRAL_BODY),
    # The rest: mistral-common 1.13.1, protocol/instruct/validator.py, which is what the vendor's server runs.
    rules.names(NAME),
    rules.ids("[a-zA-Z0-9]{9}"),
    rules.calls_are_answered,
    # A user's after a tool's was taken out of that table lately; the server still refused it in 2026-05 (hermes-agent#20154).
    rules.order(
        system="user assistant system",
        user="assistant system user",
        assistant="assistant user tool",
        tool="assistant tool",
    ),
    rules.last("user", "tool"),
    rules.parts("text", role="tool"),
    rules.parts("text", "thinking", role="assistant"),
    rules.parts("text", "image_url", role="user"),
)
MINIMAX = (
    rules.roles("system", "user", "assistant", "tool"),
    # "chat content has invalid message role: system (2013)" for a second one, or one further down: MiniMax-AI/MiniMax-M2#51.
    rules.one_system_in_front,
    # "function name or parameters is empty (2013)": QwenLM/qwen-code#11905.
    rules.tools_have_parameters,
    rules.names(NAME),
    # "tool result's tool id(…) not found (2013)": MiniMax-AI/MiniMax-M2#76; "invalid function arguments json string": pi#5468.
    *USUAL,
    # "which must be preserved completely": platform.minimax.io/docs/api-reference/text-openai-api.
    rules.own_comes_back("content"),
    rules.own_texts_come_back,
)
GLM = (
    # "Incorrect role information" for developer: earendil-works/pi#547, vastsa/PI-Desktop#30.
    rules.roles("system", "user", "assistant", "tool"),
    rules.names(NAME),
    *USUAL,
    # "explicitly preserved and returned together with the tool results": docs.z.ai/guides/capabilities/thinking-mode.
    rules.own_comes_back("reasoning_content"),
)
ZAI = (
    *GLM,
    # 1214 "The messages parameter is illegal" without a message of a user: anomalyco/opencode#2557.
    rules.has_a_user,
)
KIMI_3 = (
    rules.roles("system", "user", "assistant", "tool"),
    # "must start with a letter and can contain letters, numbers, underscores, and dashes": MoonshotAI/kimi-cli#1773.
    rules.names("[a-zA-Z][a-zA-Z0-9_-]{0,63}"),
    *USUAL,
    # "thinking is enabled but reasoning_content is missing in assistant tool call message": MoonshotAI/kimi-agent-sdk#169.
    rules.thoughts_with_calls(bool),
    # "include the entire reasoning content": platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model.
    rules.own_comes_back("reasoning_content"),
)
KIMI = (
    *KIMI_3,
    # "tool_choice 'required' is incompatible with thinking enabled", but for version 3: UKGovernmentBEIS/inspect_ai#5152.
    rules.forced_calls_do_not_think(rules.thinks_unasked),
    # "cannot specify both 'thinking' and 'reasoning_effort'": HKUDS/nanobot#3939.
    rules.not_both("thinking", "reasoning_effort"),
)
DEEPSEEK = (
    # "unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`, `latest_reminder`": decolua/9router#773.
    rules.roles("system", "user", "assistant", "tool", "latest_reminder"),
    # "unknown variant `image_url`, expected `text`": rikkahub/rikkahub#1433.
    rules.parts("text"),
    rules.names(NAME),
    rules.calls_are_answered,
    # "Thinking mode does not support this tool_choice": BerriAI/litellm#37470.
    rules.forced_calls_do_not_think(rules.thinks_unasked),
    # "The `reasoning_content` in the thinking mode must be passed back": api-docs.deepseek.com/guides/thinking_mode; "" counts.
    rules.thoughts_with_calls(lambda text: text is not None),
    rules.own_comes_back("reasoning_content"),
)
MIMO = (
    rules.roles("system", "developer", "user", "assistant", "tool"),
    rules.names(NAME),
    *USUAL,
    # "The reasoning_content in the thinking mode must be passed back", be it empty: XiaomiMiMo/MiMo-Code#1819, the vendor's notice
    # of 2026-05-12 (VicBilibily/GCMP#171) and platform.xiaomimimo.com/docs/en-US/usage-guide/passing-back-reasoning_content.
    rules.thoughts_with_calls(lambda text: text is not None),
    rules.own_comes_back("reasoning_content"),
)
DASHSCOPE = (
    # "developer is not one of ['system', 'assistant', 'user', 'tool', 'function']": proma-ai/Proma#1496.
    rules.roles("system", "user", "assistant", "tool", "function"),
    # "does not support being set to required or object in thinking mode": cloudwego/eino#994.
    rules.forced_calls_do_not_think(lambda body: body.get("enable_thinking")),
    rules.names(NAME),
    *USUAL,
)
# cerebras_cloud_sdk 1.91.0, types/chat/completion_create_params.py; "property '…' is unsupported": Kilo-Org/kilocode#10375.
CEREBRAS_KEYS = {
    "system": "role content name",
    "developer": "role content name",
    "user": "role content name",
    "assistant": "role content name reasoning tool_calls",
    "tool": "role content name tool_call_id",
    "call": "id type function index",
}
CEREBRAS = (
    rules.roles("system", "developer", "user", "assistant", "tool"),
    rules.keys(
        "messages.{place}.{role}.{key}: property 'messages.{place}.{role}.{key}' is unsupported", **CEREBRAS_KEYS
    ),
    rules.names(NAME),
    rules.parts("text", role="tool"),
    rules.parts("text", role="assistant"),
    rules.calls_are_answered,
)
# groq 1.7.0, types/chat/chat_completion_*_message_param.py; "property 'reasoning_content' is unsupported": janhq/jan#8136.
GROQ_KEYS = {
    "system": "role content name",
    "user": "role content name",
    "assistant": "role content name function_call reasoning tool_calls",
    "tool": "role content tool_call_id",
    "call": "id type function",
}
GROQ = (
    rules.roles("system", "user", "assistant", "tool"),
    rules.keys("'messages.{place}' : for 'role:{role}' (property '{key}' is unsupported)", **GROQ_KEYS),
    rules.names(NAME),
    rules.parts("text", role="assistant"),
    rules.calls_are_answered,
    rules.arguments_are_json,
)
XAI = (
    rules.roles("system", "developer", "user", "assistant", "tool"),
    # "Each message must have at least one content element", met with content null beside calls: langchain-ai/langchain#34140.
    rules.content_is_there,
    rules.names(NAME),
    *USUAL,
)
# openrouter 1.3.84, components/chat*message.py; reasoning_content is another name of reasoning there.
OPENROUTER_KEYS = {
    **OPENAI_KEYS,
    "assistant": "role content name refusal audio images model reasoning reasoning_content reasoning_details tool_calls annotations",
}
OPENROUTER = (
    rules.roles("system", "developer", "user", "assistant", "tool"),
    rules.keys(**OPENROUTER_KEYS),
    rules.names(NAME),
    rules.calls_are_answered,
    rules.arguments_are_json,
    # "must match the outputs generated by the model": openrouter.ai/docs/use-cases/reasoning-tokens.
    rules.own_comes_back("reasoning_details"),
)
OLLAMA = (
    # ollama/ollama, openai/openai.go: arguments are parsed, and of parts there are text and image_url ("invalid message format").
    rules.parts("text", "image_url"),
    rules.arguments_are_json,
    rules.calls_are_answered,
)

ANTHROPIC = (blocks_are_well_named, MESSAGES.read, no_white_space_at_the_end, thinking_comes_back)
GEMINI = (functions_are_well_named, GENERATE.read, as_many_results_as_calls, calls_follow_users, signatures_come_back)
RESPONSES_RULES = (response_names, RESPONSES.read)

PROVIDERS = [
    Provider("openai", "gpt-4o", Chat("", "call_{}abcdefghijklmno"), openai_error, OPENAI),
    Provider("azure-openai", "gpt-4o", Chat("", "call_{}abcdefghijklmno"), openai_error, OPENAI),
    Provider("mistral", "magistral-medium-latest", Chat("chunks", "{}"), mistral_error, MISTRAL),
    Provider("minimax", "MiniMax-M3", Chat("tags", "call_function_{}_1"), minimax_error, MINIMAX),
    Provider("zai", "glm-5", Chat(), zai_error, ZAI, sees=False),
    Provider("moonshot", "kimi-k2.6", Chat(ids="calendar:{}"), openai_error, KIMI),
    Provider("kimi-coding", "kimi-for-coding", Chat(ids="tool_{}"), openai_error, KIMI),
    Provider("deepseek", "deepseek-v4-pro", Chat(ids="call_00_{}"), openai_error, DEEPSEEK, sees=False),
    Provider("dashscope", "qwen3.5-plus", Chat(), openai_error, DASHSCOPE),
    Provider("cerebras", "gpt-oss-120b", Chat("reasoning", "{}"), cerebras_error, CEREBRAS, sees=False),
    Provider("groq", "openai/gpt-oss-120b", Chat("reasoning", "fc_{}-0000-4000-8000-abcdefabcdef"), openai_error, GROQ, sees=False),
    Provider("xai", "grok-4", Chat(), xai_error, XAI),
    Provider("xiaomi-mimo", "mimo-v2.5-pro", Chat(), mimo_error, MIMO),
    Provider("opencode", "kimi-k2.5", Chat(ids="functions.calendar:{}"), openai_error, KIMI),
    Provider("opencode-go", "deepseek-v4-flash", Chat(), openai_error, DEEPSEEK, sees=False),
    Provider("openrouter", "anthropic/claude-sonnet-4.5", Chat("details", "toolu_vrtx_{}"), openai_error, OPENROUTER),
    Provider("ollama", "qwen3-vl", Chat("reasoning"), openai_error, OLLAMA),
    Provider("anthropic", "claude-sonnet-4-5", MESSAGES, anthropic_error, ANTHROPIC),
    Provider("gemini", "gemini-3-pro", GENERATE, gemini_error, GEMINI),
    Provider("cohere", "command-a-reasoning", COHERE, cohere_error, (cohere_names, COHERE.read)),
    Provider("openai-responses", "gpt-5.2-codex", RESPONSES, openai_error, RESPONSES_RULES),
]  # fmt: skip
# Further models of hosts that have one habit for each.
MODELS = [
    Provider("opencode", "glm-5", Chat(), openai_error, GLM, sees=False),
    Provider("opencode", "deepseek-v4-flash", Chat(), openai_error, DEEPSEEK, sees=False),
    Provider("opencode", "mimo-v2.5", Chat(), openai_error, MIMO),
    Provider("opencode", "claude-sonnet-4-5", MESSAGES, anthropic_error, ANTHROPIC),
    Provider("opencode", "gpt-5.2", RESPONSES, openai_error, RESPONSES_RULES),
    Provider("opencode", "gemini-3-pro", GENERATE, gemini_error, GEMINI),
    Provider("opencode-go", "glm-5", Chat(), openai_error, GLM, sees=False),
    Provider("opencode-go", "kimi-k2.6", Chat(), openai_error, KIMI),
    Provider("opencode-go", "mimo-v2-pro", Chat(), openai_error, MIMO),
    Provider("moonshot", "kimi-k3", Chat(), openai_error, KIMI_3),
    Provider("anthropic", "claude-opus-4-6", MESSAGES, anthropic_error, ANTHROPIC),
]


# ------------------------------------------------------------------ HTTP


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    wbufsize = -1

    def handle(self):
        with contextlib.suppress(OSError):
            while line := self.rfile.readline():
                head = self._head()
                self._answer(line.decode().split()[1], self.rfile.read(int(head["content-length"])).decode())
                self.wfile.flush()

    def _head(self):
        lines = iter(lambda: self.rfile.readline().decode("latin-1").strip(), "")
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def _answer(self, path, text):
        body = json.loads(text)
        name, model = path.split("/")[1], body.get("model") or path.split("/models/")[-1].partition(":")[0]
        provider = self.server.by_name[f"{name}/{model}"]
        provider.bodies.append(text)
        if fault := provider.fault(body):
            provider.refused.append(fault)
            status, said = provider.error(fault)
            self._send(status, "application/json", json.dumps(said))
            return
        answer = self.server.next_answer(provider.api.names(body))
        provider.own.update(provider.api.remembered(answer))
        if body.get("stream") or "streamGenerateContent" in path:
            self._send(200, provider.api.media, "".join(provider.api.events(answer, model)))
        else:
            self._send(200, "application/json", json.dumps(provider.api.whole(answer, model)))

    def _send(self, status, media, text):
        data = text.encode()
        self.wfile.write(
            b"HTTP/1.1 %d X\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (status, media.encode(), len(data))
            + data
        )


class StrictServer(socketserver.ThreadingTCPServer):
    """All providers at /NAME. What they say next is told by `says`, and by `calls` which tools they call, by their place."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, providers=(*PROVIDERS, *MODELS)):
        super().__init__(("127.0.0.1", 0), Handler)
        self.by_name = {str(provider): provider for provider in providers}
        self.called = count(1)
        self.says, self.thinks, self.calls = "", "", ()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_answer(self, names):
        calls = [(names[place], arguments) for place, arguments in self.calls]
        words = [f"{word} " for word in self.says.split(" ")[:-1]] + [self.says.split(" ")[-1]]
        thoughts = [f"{word} " for word in self.thinks.split()]
        before = next(self.called) * 10
        return Answer(words, thoughts, calls, "tool_calls" if calls else "stop", 9, 0, called=before)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
