"""All the questions, put to the door that opened. What gets through changes the draft; what does not is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from prx.chat import plain
from prx.conformance import cases
from prx.probe.doors import HELLO, Found, sense
from prx.probe.findings import Finding, Judged, refuses, said
from prx.probe.line import Answer, Ask, Line, SpentError
from prx.probe.questions import QUESTIONS, Question
from prx.probe.remedies import coax
from prx.spec.model import Spec
from prx.spec.resolve import then

_BUSY = 3  # so many questions given up one after the other, and nothing more is asked
_TIRED = ("rate_limit", "quota", "timeout", "connection")
_TWICE = 2
_NO_PATH = (404, 405, 410, 501)
_SOLID = ("auth", "bad_request", "not_found")  # kinds of errors that will be the same tomorrow


@dataclass
class Interview:
    """See the module. findings: in the order of the questions."""

    line: Line
    found: Found
    say: Callable[[Finding], None]
    findings: list[Finding] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    busy: int = 0

    def run(self) -> None:
        """Ask everything. Where no more requests may be sent, the rest is noted as not learned."""
        self.draft, self.answers["chat"] = self.found.draft, self.found.answer
        self._add(*self.found.findings)
        why = ""
        for name, step in self._steps():
            try:
                self._add(*([Finding(name, "open", why)] if why else step()))
            except SpentError as spent:
                why = str(spent)
                self._add(Finding(name, "open", why))

    def _steps(self) -> Iterator[tuple[str, Callable[[], list[Finding]]]]:
        yield "models", self._models
        for question in QUESTIONS:
            yield question.name, partial(self._question, question)
        for name, dialect in self._others():
            yield name, partial(self._other, name, dialect)
        yield "unknown model", self._unknown_model
        if self.line.key:
            yield "no key", self._no_key
            yield "wrong key", self._wrong_key

    def _add(self, *findings: Finding) -> None:
        for finding in findings:
            self.findings.append(finding)
            self.say(finding)

    @property
    def spec(self) -> Spec:
        return self.line.definition(self.draft).spec(self.found.model)

    # -------------------------------------------------------------- a question of the table

    def _question(self, question: Question) -> list[Finding]:
        missing = [name for name in question.needs if not self._known(name)]
        if missing:
            return [Finding(question.name, "open", f"not asked, since it takes {' and '.join(missing)}")]
        made: list[Finding] = []
        verdict = self._verdict(question, self._views(question, made))
        return [*made, verdict]

    def _known(self, name: str) -> bool:
        return any(finding.name == name and finding.verdict == "yes" for finding in self.findings)

    def _views(self, question: Question, made: list[Finding]) -> Iterator[Answer]:
        """Answers that may show it: one that is there already, then one for each request."""
        if question.reads in self.answers:
            yield self.answers[question.reads]
        for ask in question.asks:
            yield self._asked(question, ask, made)
        if question.helps:
            yield from self._helped(question, made)

    def _asked(self, question: Question, ask: Ask, made: list[Finding]) -> Answer:
        answer, draft, remedies = coax(self.line, self.draft, ask)
        self._count(answer)
        if answer.error is None:
            self.draft = draft
            self.answers[question.name] = answer
            made += remedies
        return answer

    def _helped(self, question: Question, made: list[Finding]) -> Iterator[Answer]:
        """The last request once more, with what may help laid over the draft."""
        draft = self.draft.over(question.helps)
        answer = self.line.ask(draft, question.asks[-1])
        if answer.error is None and question.shows(answer).verdict == "yes":
            self.draft = draft
            made.append(Finding("way of asking", "no", "ignored otherwise", answer.asked, overlay=question.helps))
            yield answer

    def _verdict(self, question: Question, views: Iterator[Answer]) -> Finding:
        """Yes where one answer shows it, no where it was refused as such or ignored twice, else open."""
        ignored: list[str] = []
        for answer in views:
            judged = self._judged(question, answer)
            if isinstance(judged, Finding):
                return judged
            if judged.verdict == "ignored":
                ignored.append(judged.how)
            if judged.verdict == "yes":
                return Finding(question.name, "yes", judged.how, answer.asked, question.capability)
        if len(ignored) >= _TWICE:
            return Finding(question.name, "no", f"ignored twice: {ignored[-1]}", answer.asked, question.capability)
        return Finding(question.name, "open", judged.how, answer.asked, question.capability)

    def _judged(self, question: Question, answer: Answer) -> Finding | Judged:
        """What an answer shows; a finding where it settles the question by itself."""
        if answer.error is not None:
            return _of_error(question.name, answer, question.capability, refused=refuses(answer.error, question.words))
        judged = question.shows(answer)
        assert answer.reply is not None
        if judged.verdict != "yes" and answer.reply.finish_reason == "length":
            return Judged("open", f"cut at its limit before it showed anything ({judged.how})")
        return judged

    def _count(self, answer: Answer) -> None:
        """Raise SpentError where one question after the other had to be given up to a busy or silent server."""
        limited = answer.error is not None and answer.error.kind in _TIRED
        self.busy = self.busy + 1 if limited else 0
        if self.busy >= _BUSY and answer.error is not None:
            raise SpentError(f"the server answers no more: {said(answer.error)}")

    # -------------------------------------------------------------- questions of their own kind

    def _models(self) -> list[Finding]:
        names = self.found.names
        if names is None or (names.error is None and not names.names):
            return [
                Finding(
                    "models", "open", "the list is empty" if names else "the dialect has no list", capability="models"
                )
            ]
        if names.error is None:
            return [Finding("models", "yes", f"{len(names.names)} listed", names.asked, "models")]
        return [_of_error("models", names, "models", refused=_no_such_path(names))]

    def _others(self) -> list[tuple[str, str]]:
        """Capabilities that are a way out into another dialect, and which."""
        raw = self.line.definition(self.found.draft).raw.get("fallbacks", {})
        return [
            (row["needs"], then(row)["extends"])
            for row in raw.values()
            if row and row.get("needs") and then(row).get("extends")
        ]

    def _other(self, name: str, dialect: str) -> list[Finding]:
        answer = self.line.ask(self.draft.speaking(dialect), Ask(HELLO))
        self._count(answer)
        if answer.error is None:
            return [Finding(name, "yes", "a chat came through", answer.asked, name)]
        return [_of_error(name, answer, name, refused=_no_such_path(answer))]

    def _no_key(self) -> list[Finding]:
        answer = self.line.ask(self.draft, Ask(HELLO, key="none", holds="no key"))
        if sense(answer) == "walled" and answer.error is not None:
            how = said(answer.error)
            return [Finding("no key", "yes", how, answer.asked, overlay={"auth": {"required": True}})]
        return [
            Finding("no key", "open", said(answer.error) if answer.error else "answered all the same", answer.asked)
        ]

    def _wrong_key(self) -> list[Finding]:
        return self._case("wrong_key", Ask({**HELLO, "max_tokens": 20}, key="wrong", holds="a wrong key"))

    def _unknown_model(self) -> list[Finding]:
        return self._case(
            "unknown_model", Ask({**HELLO, "max_tokens": 20}, model="no-such-model", holds="an unknown model")
        )

    def _case(self, name: str, ask: Ask) -> list[Finding]:
        """A conformance case of an error: as usual, or a deviation that says what came instead."""
        answer = self.line.ask(self.draft, ask)
        self._count(answer)
        label, error = name.replace("_", " "), answer.error
        case = next(case for case in cases.load() if case.name == name)
        how = f"{error.kind}, {said(error)}" if error else "answered all the same"
        if error is not None and error.kind not in _SOLID:
            return [Finding(label, "open", how, answer.asked)]
        if not cases.failures(case, self.spec, seen(answer, self.line.model)):
            return [Finding(label, "yes", how, answer.asked)]
        return [Finding(label, "no", how, answer.asked, overlay={"deviations": {name: [_holds(answer)]}})]


def _of_error(name: str, answer: Answer, capability: str, *, refused: bool) -> Finding:
    assert answer.error is not None
    how = f"refused: {said(answer.error)}" if refused else said(answer.error)
    return Finding(name, "no" if refused else "open", how, answer.asked, capability)


def _no_such_path(answer: Answer) -> bool:
    return sense(answer) == "absent" and answer.error is not None and answer.error.status in _NO_PATH


def seen(answer: Answer, model: str) -> dict[str, Any]:
    """An answer as the conditions of a case look at it."""
    names = ("kind", "status", "message", "retryable", "hint")
    error = {name: getattr(answer.error, name) for name in names} if answer.error else None
    return {
        "reply": plain(answer.reply),
        "error": error,
        "deltas": plain(answer.deltas),
        "models": None,
        "model": model,
    }


def _holds(answer: Answer) -> str:
    if answer.error is None:
        return "reply.content" if answer.reply and answer.reply.content else "reply"
    return f"error.kind == '{answer.error.kind}' && error.status == `{answer.error.status or 'null'}`"
