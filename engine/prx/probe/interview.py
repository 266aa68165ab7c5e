"""Asks all questions at the door that was found. A remedy that helps changes the draft for all further questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from prx.chat import plain
from prx.conformance import cases
from prx.errors import Error
from prx.probe import embeddings
from prx.probe.doors import HELLO, Found, no_such_path, sense
from prx.probe.findings import Finding, Judged, refuses, said
from prx.probe.line import Answer, Ask, Line, SpentError
from prx.probe.questions import QUESTIONS, Question
from prx.probe.remedies import ask_with_remedies
from prx.spec.model import Spec
from prx.spec.resolve import then

_MAX_BUSY = 3  # after so many questions in a row that a busy server did not answer, no more are asked
_BUSY_KINDS = ("rate_limit", "quota", "timeout", "connection")
_TWICE = 2
_PERMANENT = ("auth", "bad_request", "not_found")  # kinds of errors that do not depend on when the request is sent


@dataclass
class Interview:
    """The questions to one server.

    findings  in the order of the questions
    answers   by the name of the question; "chat" is that of the search
    busy      how many questions in a row a busy server has not answered
    """

    line: Line
    found: Found
    say: Callable[[Finding], None]
    findings: list[Finding] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    busy: int = 0

    def run(self) -> None:
        """Ask all questions. Once no more requests may be sent, the findings of the others are open."""
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
        yield embeddings.NAME, self._embeddings
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
            return [Finding(question.name, "open", f"not asked, since it requires {' and '.join(missing)}")]
        remedies: list[Finding] = []
        verdict = self._verdict(question, self._answers(question, remedies))
        return [*remedies, *self._compared(question, verdict)]

    def _compared(self, question: Question, verdict: Finding) -> list[Finding]:
        """The verdict, and where the conformance case that asks the same would fail on this answer, a deviation for the file."""
        answer = self.answers.get(question.name) or self.answers.get(question.reads)
        is_shown = verdict.verdict == "yes"
        is_settled = (
            question.settles and verdict.verdict == "open" and answer is not None and answer.asked == verdict.asked
        )
        if not question.case or answer is None or not (is_shown or is_settled):
            return [verdict]
        (case,) = cases.named([question.case])
        view = case_view(answer, self.line.model)
        usage = answer.reply.usage if answer.reply else None
        # Where the server counts no tokens, the question about that says so for all cases, see write.uncounted.
        hold = [row for row in case.hold if "usage" not in row or "||" in row or (usage and usage.total_tokens)]
        failing = [condition for condition in cases.failures(case, self.spec, view) if condition in hold]
        if not failing:
            return [verdict]
        kept = [condition for condition in hold if condition not in failing] or [_condition(answer)]
        overlay = {"deviations": {case.name: kept}}
        if is_settled:
            return [replace(verdict, verdict="no", overlay=overlay)]
        how = "; ".join(str(cases.difference(condition, view, self.line.mask.text)) for condition in failing)
        return [verdict, Finding("deviation", "no", f"{case.name}: {how}", answer.asked, overlay=overlay)]

    def _known(self, name: str) -> bool:
        return any(finding.name == name and finding.verdict == "yes" for finding in self.findings)

    def _answers(self, question: Question, remedies: list[Finding]) -> Iterator[Answer]:
        """Answers that may decide a question: one of an earlier question, then one for each request. The remedies that they
        needed are added to `remedies`.
        """
        if question.reads in self.answers:
            yield self.answers[question.reads]
        for ask in question.asks:
            yield self._ask(question, ask, remedies)
        if question.helps:
            yield from self._ask_with_help(question, remedies)

    def _ask(self, question: Question, ask: Ask, remedies: list[Finding]) -> Answer:
        answer, draft, needed = ask_with_remedies(self.line, self.draft, ask)
        self._count(answer)
        if answer.error is None:
            self.draft = draft
            self.answers[question.name] = answer
            remedies += needed
        return answer

    def _ask_with_help(self, question: Question, remedies: list[Finding]) -> Iterator[Answer]:
        """The answer to the last request with `question.helps` over the draft, if it shows the feature."""
        draft = self.draft.over(question.helps)
        answer = self.line.ask(draft, question.asks[-1])
        if answer.error is None and question.shows(answer).verdict == "yes":
            self.draft = draft
            finding = Finding("form of the request", "no", "ignored without it", answer.asked, overlay=question.helps)
            remedies.append(finding)
            yield answer

    def _verdict(self, question: Question, answers: Iterator[Answer]) -> Finding:
        """Yes where an answer shows the feature; no where an error refuses it, or two answers ignore it; else open."""
        ignored: list[str] = []
        for answer in answers:
            judged = self._judged(question, answer)
            if isinstance(judged, Finding):
                return replace(judged, how="; then ".join([*ignored, judged.how]))
            if judged.verdict == "ignored":
                ignored.append(judged.how)
            if judged.verdict == "yes":
                return Finding(question.name, "yes", judged.how, answer.asked, question.capability)
        if len(ignored) >= _TWICE:
            return Finding(question.name, "no", f"ignored twice: {ignored[-1]}", answer.asked, question.capability)
        return Finding(question.name, "open", judged.how, answer.asked, question.capability)

    def _judged(self, question: Question, answer: Answer) -> Finding | Judged:
        """What an answer shows; a Finding where it decides the question alone."""
        if answer.error is not None:
            return _of_error(question.name, answer, question.capability, refused=refuses(answer.error, question.words))
        judged = question.shows(answer)
        assert answer.reply is not None
        if judged.verdict != "yes" and answer.reply.finish_reason == "length":
            return Judged("open", f"the answer was cut at max_tokens before it showed anything ({judged.how})")
        return judged

    def _count(self, answer: Answer) -> None:
        """Raise SpentError where the server was busy or silent for _MAX_BUSY questions in a row."""
        is_busy = answer.error is not None and answer.error.kind in _BUSY_KINDS
        self.busy = self.busy + 1 if is_busy else 0
        if self.busy >= _MAX_BUSY and answer.error is not None:
            raise SpentError(f"the server does not answer any more: {said(answer.error)}")

    # -------------------------------------------------------------- questions that are not in the table

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
        return [_of_error("models", names, "models", refused=no_such_path(names))]

    def _others(self) -> list[tuple[str, str]]:
        """(capability, dialect) of each fallback of the dialect that changes to another dialect."""
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
            return [Finding(name, "yes", "a chat was answered", answer.asked, name)]
        return [_of_error(name, answer, name, refused=no_such_path(answer))]

    def _embeddings(self) -> list[Finding]:
        if embeddings.KIND not in self.spec.calls:
            return [Finding(embeddings.NAME, "open", "not asked, since the dialect has none")]
        listed = self.found.names.names if self.found.names else ()
        return [embeddings.found(self._embedding, listed, self.found.model)]

    def _embedding(self, ask: Ask) -> Answer:
        answer = self.line.ask(self.draft, ask)
        self._count(answer)
        return answer

    def _no_key(self) -> list[Finding]:
        answer = self.line.ask(self.draft, Ask(HELLO, key="none", holds="no key"))
        if sense(answer) == "key_refused" and answer.error is not None:
            how = said(answer.error)
            return [Finding("no key", "yes", how, answer.asked, overlay={"auth": {"required": True}})]
        return [Finding("no key", "open", said(answer.error) if answer.error else "answered without one", answer.asked)]

    def _wrong_key(self) -> list[Finding]:
        return self._case("wrong_key", Ask({**HELLO, "max_tokens": 20}, key="wrong", holds="a wrong key"))

    def _unknown_model(self) -> list[Finding]:
        return self._case(
            "unknown_model", Ask({**HELLO, "max_tokens": 20}, model="no-such-model", holds="an unknown model")
        )

    def _case(self, name: str, ask: Ask) -> list[Finding]:
        """The finding of a conformance case that expects an error: yes, or no with a deviation for the file."""
        answer = self.line.ask(self.draft, ask)
        self._count(answer)
        label, error = name.replace("_", " "), answer.error
        case = next(case for case in cases.load() if case.name == name)
        how = f"{error.kind}, {said(error)}" if error else "answered without an error"
        if error is not None and error.kind not in _PERMANENT and not self._is_repeated(ask, error):
            return [Finding(label, "open", how, answer.asked)]
        if not cases.failures(case, self.spec, case_view(answer, self.line.model)):
            return [Finding(label, "yes", how, answer.asked)]
        return [Finding(label, "no", how, answer.asked, overlay={"deviations": {name: [_condition(answer)]}})]

    def _is_repeated(self, ask: Ask, error: Error) -> bool:
        """Whether the same request gets the same error of the server's once more: then it is no trouble of a moment."""
        if error.kind != "server":
            return False
        again = self.line.ask(self.draft, ask).error
        return again is not None and (again.kind, again.status) == (error.kind, error.status)


def _of_error(name: str, answer: Answer, capability: str, *, refused: bool) -> Finding:
    assert answer.error is not None
    how = f"refused: {said(answer.error)}" if refused else said(answer.error)
    return Finding(name, "no" if refused else "open", how, answer.asked, capability)


def case_view(answer: Answer, model: str) -> dict[str, Any]:
    """An answer as the view of a case's conditions, see cases.play."""
    names = ("kind", "status", "message", "retryable", "hint")
    error = {name: getattr(answer.error, name) for name in names} if answer.error else None
    return {
        "reply": plain(answer.reply),
        "error": error,
        "deltas": plain(answer.deltas),
        "models": None,
        "model": model,
    }


def _condition(answer: Answer) -> str:
    """A condition that holds for this answer."""
    if answer.error is None:
        return "reply.content" if answer.reply and answer.reply.content else "reply"
    return f"error.kind == '{answer.error.kind}' && error.status == `{answer.error.status or 'null'}`"
