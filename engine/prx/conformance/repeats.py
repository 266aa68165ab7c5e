"""One result of a case that was run several times, for servers that do not give the same answer twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prx.conformance.run import Result

_RIGHT = ("passed", "skipped")
_NO_VERDICT = ("limited", "error", "unasked")
_ROUNDING = 1e-9  # 0.7 of 10 runs are 7, although 0.7 * 10 is a little more


def merged(results: Sequence[Result], pass_rate: float) -> Result:
    """The result of all runs of a case. It passes where at least pass_rate of them were right, and fails where those without
    a verdict could not make up for it; otherwise nothing is known.
    """
    if len(results) == 1 or all(result.outcome == "skipped" for result in results):
        return results[0]
    right = [result for result in results if result.outcome in _RIGHT]
    unknown = [result for result in results if result.outcome in _NO_VERDICT]
    wrong = [result for result in results if result.outcome not in (*_RIGHT, *_NO_VERDICT)]
    needed = pass_rate * len(results) - _ROUNDING
    may_pass = len(right) + len(unknown) >= needed
    chosen = (right if len(right) >= needed else unknown if may_pass else wrong)[0]
    others = [*wrong, *unknown]
    cause = chosen if chosen.outcome not in _RIGHT else next(iter(others), chosen)
    tokens = [result.tokens for result in results if result.tokens is not None]
    return replace(
        chosen,
        why=f"{len(right)} of {len(results)} passed; {cause.why}" if others else "",
        seconds=sum(result.seconds for result in results),
        tokens=sum(tokens) if tokens else None,
        runs=(len(right), len(results)),
    )
