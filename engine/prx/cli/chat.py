"""prx chat: prints one answer, or a conversation, as it arrives."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from prx.accounts.choose import ModelRef
from prx.chat import Message, Reply
from prx.cli import kept, lines, options, request_options, show
from prx.cli.conversation import Conversation, chosen, restored, user
from prx.client import Client
from prx.session import Session


@click.command()
@click.argument("prompt", nargs=-1)
@click.option(
    "-m",
    "--model",
    shell_complete=options.complete_model,
    help="provider/model, a routed name, or with --provider the model's own name.",
)
@click.option(
    "-p",
    "--provider",
    shell_complete=options.complete_provider,
    help="The provider to call: its name, or the path of its file.",
)
@click.option("-s", "--system", metavar="TEXT", help="A system message.")
@click.option("--chat", "several", is_flag=True, help="Several turns: each line of standard input is a message.")
@click.option(
    "--image",
    "pictures",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A picture to show the model.",
)
@click.option(
    "--tools", "tools_file", metavar="FILE", type=click.Path(path_type=Path), help="JSON list of function definitions."
)
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter such as temperature=0; the value is JSON or text.",
)
@click.option("--timeout", type=options.seconds, metavar="SECONDS", help="Longest time without a byte, in every phase.")
@click.option("--deadline", type=options.seconds, metavar="SECONDS", help="Longest time for the whole call.")
@click.option("--retries", type=click.IntRange(0), metavar="N", help="Attempts beyond the first.")
@click.option("--no-fallbacks", is_flag=True, help="Do not try fallbacks.")
@click.option("--no-stream", is_flag=True, help="Request one whole answer instead of a stream.")
@click.option("--continue", "last", is_flag=True, help="Go on with the last conversation.")
@click.option(
    "--resume",
    metavar="ID",
    shell_complete=options.complete_conversation,
    help="Go on with this conversation: its id, or the beginning of it.",
)
@click.option("--no-log", is_flag=True, help="Do not keep this conversation.")
@click.option("--plain", is_flag=True, help="Print Markdown as it is written, also on a terminal.")
@click.option("--raw", is_flag=True, help="Print control characters in the text unchanged, also on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print the reply as JSON.")
@click.option("--events", is_flag=True, help="Print each piece as a line of JSON, as it arrives.")
@click.option("--dry-run", is_flag=True, help="Print the request, with its key masked, and send nothing.")
@options.settings
def chat(
    prompt: tuple[str, ...], model: str | None, provider: str | None, system: str | None, several: bool, pictures: tuple[Path, ...],
    tools_file: Path | None, params: tuple[str, ...], timeout: float | None, deadline: float | None, retries: int | None,
    no_fallbacks: bool, no_stream: bool, last: bool,
    resume: str | None, no_log: bool, plain: bool, raw: bool, as_json: bool, events: bool, dry_run: bool, config: str | None, folders: tuple[str, ...],
) -> None:  # fmt: skip
    """Call a model. The prompt is the argument, or standard input; where both are there, what is read follows the argument.

    On a terminal, without a prompt, a chat begins: /help lists its commands, Ctrl-C ends an answer, Ctrl-D leaves.

    \b
    prx chat -m provider/model
    prx chat -m provider/model "Say hello."
    git diff | prx chat -m provider/model "Write a commit message."
    """
    if as_json and events:
        raise click.UsageError("--json and --events cannot be used together")
    if last and resume:
        raise click.UsageError("--continue and --resume cannot be used together")
    if provider:
        provider, folders = options.by_name(provider, folders)
    asking: dict[str, Any] = {"tools": request_options.tools(tools_file), **request_options.params(params)}
    typed = sys.stdin.isatty() and (several or not prompt) and not dry_run
    texts = iter((" ".join(prompt),)) if typed else _prompts(" ".join(prompt), several)
    path = kept.last() if last else kept.find(resume) if resume else None
    turns = kept.turns(path) if path else []
    if dry_run:
        _dry_run(
            options.session(config, folders),
            texts,
            turns,
            system,
            pictures,
            provider,
            model,
            asking,
            stream=not no_stream,
        )
        return
    limits = {"timeout": timeout, "deadline": deadline, "retries": retries, "fallbacks": () if no_fallbacks else None}
    shown: Callable[..., Reply] = (
        show.as_json if as_json else show.as_events if events else partial(show.as_text, raw=raw, plainly=plain or raw)
    )
    with options.client(config, folders) as client:
        keep = not no_log and client.config.chat.log
        talked = Conversation(
            client,
            _model(client, provider, model, turns),
            partial(shown, stream=not no_stream),
            {**asking, **limits},
            kept.Kept(path) if keep else None,
        )
        talked.go_on(turns, system)
        if typed:
            from prx.cli.slash import Desk
            from prx.cli.talk import talk

            talk(Desk(talked, pictures), next(texts), remember=keep)
            return
        for text in texts:
            talked.say(user(text, pictures))
            pictures = ()


def _dry_run(
    session: Session, texts: Iterator[str], turns: list[dict[str, Any]], system: str | None, pictures: Sequence[Path], provider: str | None,
    model: str | None, asking: dict[str, Any], *, stream: bool,
) -> None:  # fmt: skip
    """Print the request of the first message."""
    if (text := next(texts, None)) is not None:
        before = [message for turn in turns for message in turn["messages"]]
        if system is None and turns:
            system = turns[-1]["system"]
        first: list[Message] = [{"role": "system", "content": system}] if system else []
        show.request(
            session,
            [*first, *before, user(text, pictures)],
            _model(session, provider, model, turns),
            asking,
            stream=stream,
        )


# ------------------------------------------------------------------ arguments of the call


def _model(
    client: Client | Session, provider: str | None, model: str | None, turns: list[dict[str, Any]]
) -> str | ModelRef | None:
    """The model to call: the one that the options name, else that of the turns before; None for the default."""
    return restored(turns[-1]["model"]) if turns and not provider and not model else chosen(client, provider, model)


def _prompts(prompt: str, several: bool) -> Iterator[str]:
    """What is said: the prompt, and what standard input has. With --chat each of its lines is a message; otherwise all of it
    follows the prompt, after an empty line.
    """
    if several:
        yield from (prompt,) if prompt else ()
        while line := lines.text_of(sys.stdin.readline):
            if line.strip():
                yield line.rstrip("\n")
        return
    further = "" if sys.stdin.isatty() else lines.whole()
    yield f"{prompt}\n\n{further}" if prompt and further.strip() else prompt or further
