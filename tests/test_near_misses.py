"""A parameter whose name is nearly that of an option of prx is refused; every parameter that a provider may have passes."""

from __future__ import annotations

import pytest
from helpers.byte_server import RawServer, response

import prx
from prx.arguments import refuse_near_misses
from prx.resources import folder
from prx.spec.read import read_quickly

MEANT = {
    "retry": "retries", "retires": "retries", "max_retries": "retries", "Retries": "retries", "time_out": "timeout", "timeOut": "timeout",
    "timout": "timeout", "request_timeout": "timeout", "timeouts": "timeout", "dead_line": "deadline", "deadlines": "deadline",
    "fallback": "fallbacks", "fall_backs": "fallbacks", "toolchoice": "tool_choice", "tool_choise": "tool_choice", "extra_header": "extra_headers",
    "extrabody": "extra_body", "extra_querry": "extra_query",
}  # fmt: skip


@pytest.mark.parametrize(("name", "own"), MEANT.items())
def test_a_near_miss_is_refused(name, own):
    with pytest.raises(prx.ConfigError) as failed:
        refuse_near_misses({name: 3})
    assert failed.value.message == f"{name!r} is not an option of a call; did you mean {own!r}?"
    assert f"extra_body={{{name!r}: …}}" in failed.value.hint


@pytest.fixture(scope="module")
def server():
    with RawServer(response()) as running:
        yield running


@pytest.fixture
def config(server):
    return {"providers": {"compatible": {"api_url": server.url, "api_key": "k"}}}


@pytest.mark.parametrize("method", ["chat", "stream"])
def test_nothing_is_sent_then(server, config, method):
    before = len(server.requests)
    with prx.Client(config=config, env={}) as client, pytest.raises(prx.ConfigError, match="'retries'"):
        getattr(client, method)("hi", "compatible/m", retry=3)
    assert len(server.requests) == before


def test_other_kinds_of_call_refuse_it_too(config):
    with prx.Client(config=config, env={}) as client, pytest.raises(prx.ConfigError, match="'deadline'"):
        client.embed("hi", "compatible/m", dead_line=3)


def test_what_is_no_near_miss_is_sent(server, config):
    with prx.Client(config=config, env={}) as client:
        client.chat("hi", "compatible/m", models=["a"], num_retries=2, extra_body={"retry": 3})
    body = server.requests[-1]["body"]
    assert (body["models"], body["num_retries"], body["retry"]) == (["a"], 2, 3)


# Of the requests of OpenAI's chats, completions and Responses, Anthropic's messages and Gemini's generateContent, in both
# spellings, as their SDKs' types have them; and what servers that people run take besides.
PARAMETERS = """
    audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens metadata modalities
    moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention
    reasoning_effort response_format safety_identifier seed service_tier stop store temperature top_logprobs top_p user
    verbosity web_search_options best_of echo prompt suffix background context_management conversation include input
    instructions max_output_tokens max_tool_calls previous_response_id reasoning text truncation
    cache_control container inference_geo output_config stop_sequences system thinking top_k betas mcp_servers speed
    contents systemInstruction system_instruction generationConfig generation_config safetySettings safety_settings toolConfig
    tool_config cachedContent cached_content candidateCount candidate_count maxOutputTokens stopSequences responseMimeType
    response_mime_type responseSchema response_schema responseJsonSchema response_json_schema responseModalities
    response_modalities thinkingConfig thinking_config speechConfig speech_config imageConfig image_config mediaResolution
    media_resolution routingConfig routing_config labels automaticFunctionCalling modelArmorConfig
    message models documents citation_options connectors raw_prompting safety_mode strict_tools
    route transforms provider plugins usage cache timeout_ms num_retries mock_response tags guardrails
    keep_alive options format raw template num_ctx num_predict think
    min_p typical_p repetition_penalty repeat_penalty mirostat grammar guided_json guided_regex guided_choice guided_grammar
    structured_outputs chat_template_kwargs add_generation_prompt continue_final_message include_stop_str_in_output
    bad_words ignore_eos min_tokens skip_special_tokens truncate_prompt_tokens prompt_logprobs priority cache_salt cache_prompt
    t_max_predict_ms dry_multiplier xtc_probability n_predict id_slot return_tokens timings_per_token post_sampling_probs
    search_parameters deferred search_mode search_domain_filter return_images venice_parameters enable_thinking
    enable_search thinking_budget do_sample request_id user_id watermark random_seed prompt_mode safe_prompt
    tools_choice_mode penalty_score disable_search
""".split()  # noqa: SIM905


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_providers_pass(name):
    refuse_near_misses({name: 1})


def names_in(node):
    """Every key of a provider's file, wherever it stands: the names of parameters are among them."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from names_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from names_in(value)
    elif isinstance(node, str) and node.isidentifier():
        yield node


OURS = {"timeout", "deadline", "retries", "fallbacks", "tool_choice"}
# Words of the files themselves that are no parameters, with what they are.
WORDS_OF_FILES = {
    "retry": "a block of a file",
    "TIMEOUT": "why an answer ended",
    "toolChoice": "tool_choice, in a body",
}


def test_every_name_in_the_files_passes():
    """Far more names than there are parameters, so that one which a file adds is among them."""
    refused = {}
    for path in sorted(folder("providers.d").rglob("*.yaml")):
        for name in {*names_in(read_quickly(path))} - OURS - WORDS_OF_FILES.keys():
            try:
                refuse_near_misses({name: 1})
            except prx.ConfigError:
                refused.setdefault(name, path.stem)
    assert refused == {}
