"""prx completion: prints the completion script of a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

# What is changed in click's scripts, by shell: (what stands there, what is to stand there).
_CHANGES = {
    # No space behind provider/, where a model's name is to follow.
    "bash": ("    return 0\n", "    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace\n\n    return 0\n"),
    "zsh": (
        "        compadd -U -V unsorted -a completions\n",
        """\
        local -a going_on=(${(M)completions:#*/}) whole=(${completions:#*/})
        (( $#going_on )) && compadd -U -S '' -V unsorted -a going_on
        (( $#whole )) && compadd -U -V unsorted -a whole
""",
    ),
    # What a word means may have commas in it.
    "fish": ('string split ","', 'string split -m 1 ","'),
}  # fmt: skip


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    prx completion bash >> ~/.bashrc
    prx completion zsh >> ~/.zshrc      (behind the line with compinit)
    prx completion fish > ~/.config/fish/completions/prx.fish
    """
    cls = get_completion_class(shell)
    assert cls is not None
    script = cls(ctx.find_root().command, {}, "prx", "_PRX_COMPLETE").source()
    click.echo(script.replace(*_CHANGES[shell]))
