"""The options of `prx conformance`, and what they say together: which cases of which providers are run, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from prx.cli import options
from prx.conformance import cases, run, suite
from prx.errors import ConfigError
from prx.spec.definition import Definition
from prx.spec.model import KINDS_OF_CALLS


@dataclass(frozen=True)
class Asked:
    """The options of the command."""

    targets: tuple[str, ...]
    mode: suite.Mode | None
    only: tuple[str, ...]
    model: str
    pairs: Path | None
    models: tuple[str, ...]
    jobs: int
    retries: int
    rate: int | None
    engine: str | None
    address: str | None
    workers: int | None
    repeat: int
    pass_rate: float
    budget: int | None
    dry_run: bool
    cassettes: Path | None
    corpus: Path | None
    brief: bool
    as_json: bool
    verbose: int
    junit: Path | None
    html: Path | None
    resume: Path | None
    compare: tuple[str, str] | None
    since: Path | None
    config: str | None
    folders: tuple[str, ...]

    def check(self) -> None:
        """Raise UsageError for options that do not go together."""
        for name, value in self._live_only.items():
            if value and self.mode != "live":
                raise click.UsageError(f"{name} is for calls of providers: add --live")
        for is_wrong, words in self._contradictions:
            if is_wrong:
                raise click.UsageError(words)

    @property
    def _live_only(self) -> dict[str, Any]:
        return {
            "--retries": self.retries, "--rate": self.rate, "--repeat": self.repeat > 1, "--budget": self.budget,
            "--pairs": self.pairs,
        }  # fmt: skip

    @property
    def _contradictions(self) -> list[tuple[bool, str]]:
        """(whether the options are in contradiction, what to do)."""
        return [
            (self.pass_rate < 1 and self.repeat == 1, "--pass-rate is a share of the runs of a case: add --repeat"),
            (self.mode == "record" and self.jobs > 1, "--record writes one exchange after another: leave out --jobs"),
            (self.pairs is not None and bool(self.targets), "--pairs names the providers: leave out the others"),
            (self.pairs is not None and bool(self.model), "--pairs names the models: leave out --model"),
            (self.compare is not None and self.pairs is not None, "--pairs is of one run: leave out --compare"),
            (self.engine is None and bool(self.address or self.workers), "--address and --workers go with --engine"),
            (
                self.engine is not None and self.mode == "record",
                "recordings stay on the machine that makes them: leave out --engine",
            ),
            (
                self.engine is not None and self.budget is not None,
                "--budget counts what one machine uses: leave out --engine",
            ),
            (self.compares and self.mode == "record", "what is compared is not recorded as well: leave out --record"),
            (self.compares and self.dry_run, "--dry-run is of one run: leave out --compare or --since"),
            (self.compare is not None and self.since is not None, "--compare and --since exclude each other"),
            (
                self.compare is not None and bool(self.targets),
                "--compare names the two sides itself: leave out the others",
            ),
            (self.compare is not None and self.junit is not None, "--junit is of one run: leave out --compare"),
            (self.compare is not None and self.resume is not None, "--resume is of one run: leave out --compare"),
        ]

    @property
    def compares(self) -> bool:
        """Whether what is otherwise is reported, in place of the run."""
        return self.compare is not None or self.since is not None

    @property
    def who(self) -> str:
        """What is asked, in one word."""
        return "provider" if self.pairs is None else "pair"

    @property
    def is_worth_a_warning(self) -> bool:
        """Whether what the run may cost is said before it begins."""
        return self.plan.mode != "replay" and (
            len(self.subjects) > 1 or self.repeat > 1 or self.budget is not None or self.compare is not None
        )

    @cached_property
    def _named(self) -> list[tuple[str, tuple[str, ...]]]:
        """(name, folders that have it) of each provider that was named. Raises ConfigError."""
        return [options.by_name(target, ()) for target in self.targets]

    @cached_property
    def plan(self) -> suite.Plan:
        """The settings of the run. Raises ConfigError."""
        mode = self.mode or "replay"
        if mode == "record":
            run.check_recorder()
        folders = [Path(folder) for _, found in self._named for folder in found] + [*map(Path, self.folders)]
        recordings = self.cassettes or suite.default_recordings(mode)
        return suite.Plan(
            mode,
            cases.named(self.only),
            folders,
            recordings,
            self.config,
            self.model,
            self.retries,
            models_for(self.models),
        )

    @cached_property
    def _by_name(self) -> dict[str, Definition]:
        """The providers that were named, or all that have recordings, by the names that they were given. Raises ConfigError."""
        plan = self.plan
        with options.client(self.config, [*map(str, plan.folders)]) as client:
            catalog = client.catalog
        names = [name for name, _ in self._named or self._of_pairs] or _recorded(plan)
        return {name: catalog.get(name) for name in dict.fromkeys(names)}

    @property
    def definitions(self) -> list[Definition]:
        """The providers, each once, by whatever names. Raises ConfigError."""
        return list({definition.id: definition for definition in self._by_name.values()}.values())

    @cached_property
    def subjects(self) -> list[suite.Subject]:
        """Who is asked: each provider, or the pairs of provider and model that a file names. Raises ConfigError."""
        plan = self.plan
        if self.pairs is None:
            return [suite.Subject(found.id, found, plan) for found in self.definitions]
        pairs = {(self._by_name[provider].id, model): self._by_name[provider] for provider, model in self._of_pairs}
        return [
            suite.Subject(f"{provider}/{model}", definition, replace(plan, model=model))
            for (provider, model), definition in pairs.items()
        ]

    @cached_property
    def _of_pairs(self) -> list[tuple[str, str]]:
        """(provider, model) of each line of the file of pairs. Raises ConfigError."""
        if self.pairs is None:
            return []
        try:
            lines = self.pairs.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{self.pairs}: cannot be read: {getattr(error, 'strerror', 'it is not UTF-8')}"
            ) from None
        found: list[tuple[str, str]] = []
        for number, line in enumerate(map(str.strip, lines), 1):
            if line and not line.startswith("#"):
                provider, _, model = line.partition("/")
                if not provider or not model:
                    raise ConfigError(
                        f"{self.pairs}:{number}: is not provider/model", hint="Write one such pair in each line."
                    )
                found.append((provider, model))
        if not found:
            raise ConfigError(f"{self.pairs}: has no pair", hint="Write a line with provider/model for each.")
        return found


with_models_for = click.option(
    "--model-for",
    "models",
    multiple=True,
    metavar="KIND=MODEL",
    help="The model for a call that is no chat, such as embed=MODEL.",
)


def models_for(given: tuple[str, ...]) -> dict[str, str]:
    """{kind of a call that is no chat: its model}, from KIND=MODEL. Raises UsageError."""
    pairs = [text.partition("=") for text in given]
    for kind, _, model in pairs:
        if kind not in KINDS_OF_CALLS or not model:
            raise click.UsageError(f"--model-for is KIND=MODEL, where KIND is one of {', '.join(KINDS_OF_CALLS)}")
    return {kind: model for kind, _, model in pairs}


def _recorded(plan: suite.Plan) -> list[str]:
    if plan.mode != "replay":
        raise click.UsageError("name the providers to call; each costs tokens")
    names = sorted(path.name for path in plan.recordings.iterdir() if path.is_dir()) if plan.recordings.is_dir() else []
    if not names:
        raise ConfigError(
            f"{plan.recordings}: there are no recordings", hint="Name a provider, or a folder with --cassettes."
        )
    return names
