"""Reports of any size, made up: the same ones on every machine."""

from __future__ import annotations

import random

CASES = {
    "talking": {
        "chat": ("a text is answered with a text", []), "system": ("a system message is heeded", []), "turns": ("earlier turns are remembered", []),
        "stop": ("an answer ends at a stop word", []), "max_tokens": ("an answer cut short says so", []), "seed": ("the same seed, the same answer", []),
    },
    "streaming": {
        "stream": ("a text comes in pieces", ["stream"]), "stream_usage": ("a stream says what it used", ["stream"]),
        "stream_unicode": ("letters are never cut in two", ["stream"]), "stream_tools": ("two functions are called in a stream", ["stream", "tools"]),
        "stream_think": ("thoughts come before the answer", ["stream", "think"]), "stream_broken": ("a stream cut off is said to be cut off", ["stream"]),
    },
    "functions": {
        "tools": ("two functions are called at once", ["tools"]), "tool_choice": ("a function that must be called is called", ["tools"]),
        "tool_results": ("results are taken into account", ["tools"]), "tool_none": ("no function is called when none may be", ["tools"]),
        "parallel_tools": ("one call at a time, when asked", ["tools"]), "strict_tools": ("arguments follow the schema", ["tools", "schema"]),
    },
    "formats": {
        "json_object": ("an answer is JSON", ["json"]), "json_schema": ("an answer follows a schema", ["schema"]),
        "vision": ("a picture is seen", ["vision"]), "vision_url": ("a picture at an address is seen", ["vision"]), "think": ("effort can be asked for", ["think"]),
    },
    "models": {"models": ("the provider lists its models", ["models"]), "unknown_model": ("a model that is not there is said to be not there", [])},
    "errors": {
        "wrong_key": ("a wrong key is refused as such", []), "rate_limit": ("too many requests are said to be too many", []),
        "overflow": ("a text too long is said to be too long", []), "bad_request": ("nonsense is refused as nonsense", []), "filtered": ("a refusal is told from an error", []),
    },
}  # fmt: skip
DIALECTS = ("openai-chat", "openai-responses", "anthropic-messages", "gemini", "cohere-chat", "ollama-chat")
CAPABILITIES = ("stream", "tools", "json", "schema", "vision", "think", "models")
KNOWN = [("Groq", "groq"), ("Anthropic", "anthropic"), ("Gemini", "gemini"), ("Mistral", "mistral"), ("Ollama", "ollama"), ("Together AI", "together"),
         ("DeepSeek", "deepseek"), ("Azure OpenAI", "azure-openai"), ("llama.cpp", "llamacpp"), ("OpenRouter", "openrouter")]  # fmt: skip
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "it",
    "that",
    "for",
    "you",
    "was",
    "on",
    "are",
    "with",
    "as",
    "at",
    "be",
    "this",
    "have",
    "from",
    "or",
    "one",
    "had",
    "by",
    "word",
    "but",
    "not",
    "what",
    "all",
    "were",
    "we",
    "when",
    "your",
    "can",
    "said",
    "there",
    "use",
    "each",
    "which",
    "she",
    "do",
    "how",
    "their",
    "if",
    "will",
    "up",
    "other",
    "about",
    "out",
    "many",
    "then",
    "them",
]
EVIDENCE = {
    "live": "the provider itself", "server": "llama.cpp b6700, run on this machine", "corpus": "a public collection of recordings",
    "emulated": "prx's own emulator; no word here is the provider's",
}  # fmt: skip
WHY = {
    "limited": "429: Rate limit reached for requests per minute. Retry after 21 s.", "skipped": "the file says that it cannot: {need}",
    "error": "timeout: nothing came for 60 s", "unrecorded": "no recording of this case", "failed": "1 condition does not hold", "passed": "",
}  # fmt: skip


def report(rows, cases=30):
    chance = random.Random(rows)
    asked = [
        {"name": name, "title": title, "group": group, "needs": needs}
        for group, found in CASES.items() for name, (title, needs) in found.items()
    ][:cases]  # fmt: skip
    providers = [_provider(place, chance) for place in range(rows)]
    results = [_result(provider, case, chance) for provider in providers for case in asked]
    counts = {}
    for result in results:
        counts[result["outcome"]] = counts.get(result["outcome"], 0) + 1
    return {
        "prx": "0.1.0", "made": "2026-11-23T12:00:00Z", "mode": "replay", "cases": asked, "providers": providers,
        "results": results, "counts": counts,
    }  # fmt: skip


def _provider(place, chance):
    name, made = KNOWN[place] if place < len(KNOWN) else _name(chance, place)
    flags = {}
    for capability in CAPABILITIES:
        known = chance.choice(["live", "documented", "documented", "emulated", "none"])
        value = None if known == "none" else chance.random() > 0.15
        what = "" if known == "none" else f"example.org/docs/{capability}" if known == "documented" else "a recording"
        flags[capability] = {"value": value, "known": known, "what": what, "date": "2026-10-01" if what else ""}
    return {
        "id": made, "name": name, "dialect": chance.choices(DIALECTS, [70, 6, 8, 6, 4, 6])[0], "base_url": f"https://api.{made}.example/v1",
        "docs": f"https://docs.{made}.example/api", "file": f"providers.d/{made}.yaml", "flags": flags,
        "kind": chance.choices(["live", "server", "corpus", "emulated"], [14, 10, 8, 68] if place > 9 else [40, 20, 10, 30])[0],
    }  # fmt: skip


def _name(chance, place):
    name = "".join(
        chance.choice(("ra", "lo", "mi", "ne", "tu", "ka", "so", "ve", "qui", "zen", "dor", "xa"))
        for _ in range(chance.randint(2, 4))
    )
    tail = chance.choice(("", "", " AI", " Cloud", " Inference", " Labs", ""))
    return name.title() + tail, f"{name}{tail.lower().replace(' ', '-')}-{place}"


def _result(provider, case, chance):
    lacks = [need for need in case["needs"] if provider["flags"][need]["value"] is False]
    outcome = (
        "skipped"
        if lacks
        else chance.choices(["passed", "failed", "error", "limited", "unrecorded"], [83, 6, 1.5, 2.5, 7])[0]
    )
    kind = "none" if outcome in ("skipped", "unrecorded") else provider["kind"] if chance.random() < 0.8 else "emulated"
    evidence = (
        None
        if kind == "none"
        else {
            "kind": kind,
            "what": EVIDENCE[kind],
            "date": "2026-11-20",
            "model": f"{provider['id']}-{chance.choice(('large', 'mini', '8b'))}",
        }
    )
    return {
        "provider": provider["id"], "case": case["name"], "outcome": outcome, "why": WHY[outcome].format(need=", ".join(lacks)),
        "failures": ["length(deltas[?content]) > `2`", "reply.usage.total_tokens > `0`"][: chance.randint(1, 2)] if outcome == "failed" else [],
        "evidence": evidence, "seconds": round(chance.uniform(0.01, 3), 3) if evidence else 0,
        "exchanges": [_exchange(provider, case, outcome, evidence["model"], chance)] if evidence else [],
    }  # fmt: skip


def _exchange(provider, case, outcome, model, chance):
    said = " ".join(chance.choices(WORDS, k=chance.randint(10, 40)))
    made = f"chatcmpl-{chance.getrandbits(64):016x}"
    streams = "stream" in case["needs"]
    body = {
        "model": model,
        "messages": [{"role": "user", "content": case["title"]}],
        "temperature": 0,
        "max_tokens": 200,
        **({"stream": True} if streams else {}),
    }
    if "tools" in case["needs"]:
        schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        body["tools"] = [
            {"type": "function", "function": {"name": name, "description": "Weather of a city", "parameters": schema}}
            for name in ("get_weather", "get_time")
        ]
    request = {
        "method": "POST",
        "uri": f"{provider['base_url']}/chat/completions",
        "headers": {"accept": "application/json", "authorization": "Bearer ***"},
        "json": body,
    }
    headers = {"content-type": "application/json", "x-request-id": f"req_{chance.getrandbits(32):08x}"}
    if outcome == "limited":
        return {
            "request": request,
            "response": {
                "status": 429,
                "headers": {**headers, "retry-after": "21"},
                "json": {"error": {"message": WHY["limited"], "type": "rate_limit_error"}},
            },
        }
    if streams:
        events = [
            f'data: {{"id": "{made}", "object": "chat.completion.chunk", "created": 1767225600, "model": "{model}", "choices": [{{"index": 0, "delta": {{"content": " {word}"}}, "finish_reason": null}}]}}\n\n'
            for word in said.split()
        ]
        return {
            "request": request,
            "response": {
                "status": 200,
                "headers": {**headers, "content-type": "text/event-stream"},
                "text": "".join(events) + "data: [DONE]\n\n",
            },
        }
    answer = {
        "id": made, "object": "chat.completion", "created": 1767225600, "model": model, "system_fingerprint": None,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 16, "total_tokens": 27}, "took_ns": 12345678901234567890,
    }  # fmt: skip
    return {"request": request, "response": {"status": 200, "headers": headers, "json": answer}}
