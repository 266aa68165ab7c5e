"""What /status says, and the page at `/` shows: what is served, what runs, and what is wrong; as much as a caller may know.

Figures of calls are those of /metrics. Calls that run, the last failures, and targets that rest
where they are not shared, are of the process that answers.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from itertools import pairwise
from typing import Any

from prx.accounts.config import Route, is_pattern
from prx.errors import Error
from prx.serve.callers import Caller
from prx.serve.service import Service
from prx.spec.catalog import has_key

_MOST_CALLS = 50  # that are shown as running: the oldest
_DURATION, _FIRST = "gen_ai_server_request_duration_seconds", "gen_ai_server_time_to_first_token_seconds"
_USAGE, _RUNNING, _REFUSED = "gen_ai_client_token_usage", "prx_calls_running", "prx_requests_refused_total"
_OPERATION, _PROVIDER, _MODEL = "gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"
_OF_CALL = {_OPERATION, _PROVIDER, _MODEL}
_SHARES = {"median": 0.5, "most": 0.95}  # of calls


def status(app: Service, caller: Caller) -> dict[str, Any]:
    """As JSON values. A key is told of the models that it may ask for, and one with a name of no other key."""
    samples = [*app.metrics.samples()]
    own = [each for each in samples if each.labels.keys() >= _OF_CALL and caller.may_ask(each.labels[_MODEL])]
    running = sorted((answer for answer in app.running if caller.may_ask(answer.model)), key=lambda each: each.began)
    resting = {name: left for name, left in app.resting().items() if caller.may_ask(name)}
    callers = app.callers.all if app.callers else []
    mask = app.mask()  # the names that callers ask for are their own texts
    return {
        "version": version("prx-engine"),
        "state": "draining" if app.draining else "ready",
        "seconds": round(time.monotonic() - app.began),
        "process": {"number": os.getpid(), "of": app.workers, "shares_rests": app.shared is not None},
        "needs_key": bool(callers),
        "problems": [mask.text(problem) for problem in app.problems],
        "faces": _faces(app),
        "models": [row for row in _models(app) if caller.may_ask(row["name"])],
        "providers": [row for row in _providers(app) if caller.may_ask_some(row["id"])],
        "running": {
            "count": sum(sample.value for sample in samples if sample.name == _RUNNING),
            "most": app.settings.max_calls,
            "calls": mask.value([answer.told() for answer in running[:_MOST_CALLS]]),
        },
        "times": _times(own),
        "calls": _calls(own),
        "refused": {sample.labels["error_type"]: sample.value for sample in samples if sample.name == _REFUSED},
        "failures": mask.value([row for row in app.failures if caller.may_ask(row["model"])]),
        "resting": [{"target": name, "seconds": round(left, 1)} for name, left in resting.items()],
        "callers": [
            {"name": each.name, "models": [*each.models], "requests_per_minute": each.rate}
            for each in callers
            if not caller.name or each is caller
        ],
    }


# ------------------------------------------------------------------ what is served


def _faces(app: Service) -> list[dict[str, Any]]:
    """example: a body that asks a question, with "MODEL" for the model's name; None for a dialect whose file has none."""
    catalog = app.client.session.current().catalog
    return [
        {
            "id": face.id,
            "name": catalog.dialect_or_provider(face.id).get("name") or face.id,
            "routes": [
                {"at": each.at, "for": each.use, "stream": each.stream, "header": each.header, "query": each.query}
                for each in face.entrances
            ],
            "example": face.operations["example"]({"name": "MODEL"}) if "example" in face.operations else None,
        }
        for face in app.faces
    ]


def _models(app: Service) -> list[dict[str, Any]]:
    """Every name that is served, and every route for names that fit its pattern."""
    config = app.client.config
    routes = {route.pattern: route for route in config.routes}
    default = f"{config.provider}/{config.model}"
    return [
        {
            "name": name,
            "pattern": is_pattern(name),
            "default": name == default,
            **(_route(routes[name]) if name in routes else {"targets": [], "policy": "", "cooldown": 0}),
        }
        for name in dict.fromkeys([*app.names(), *routes])
    ]


def _route(route: Route) -> dict[str, Any]:
    one = "/".join(filter(None, (route.provider, route.model)))
    targets = [{"model": target.model, "weight": target.weight} for target in route.targets]
    return {
        "targets": targets or ([{"model": one, "weight": 1}] if one else []),
        "policy": route.policy if len(targets) > 1 else "",
        "cooldown": route.cooldown if targets else 0,
    }


def _providers(app: Service) -> list[dict[str, Any]]:
    """The providers of the configuration, and those whose key the environment has; their files are read once."""
    if "providers" not in app.worked_out:
        accounts = app.client.session.current()
        names = dict.fromkeys([*accounts.config.providers, *filter(None, [accounts.config.provider])])
        app.worked_out["providers"] = [
            *(_provider(app, name, "configuration") for name in names),
            *(_provider(app, name, "environment") for name in _with_a_key(app) if name not in names),
        ]
    rows: list[dict[str, Any]] = app.worked_out["providers"]
    return rows


def _with_a_key(app: Service) -> Iterator[str]:
    catalog = app.client.session.current().catalog
    for entry in catalog.entries():
        try:
            keyed = has_key(catalog.glance(entry), app.client.env)
        except Error:  # a broken file; `prx check` says what is wrong with it
            continue
        if keyed:
            yield entry.id


def _provider(app: Service, name: str, known_by: str) -> dict[str, Any]:
    accounts = app.client.session.current()
    settings = accounts.config.providers.get(name)
    row = {"id": name, "name": name, "dialect": "", "model": (settings and settings.model) or "", "by": known_by}
    try:
        spec = accounts.definition(name).spec()
    except Error as error:
        return {**row, "fault": error.message}
    return {
        **row,
        "name": spec.name or name,
        "dialect": spec.dialect,
        "model": row["model"] or spec.models.default or "",
    }


# ------------------------------------------------------------------ figures of calls


def _calls(samples: Iterable[Any]) -> list[dict[str, Any]]:
    """A row for each operation, provider and model, the most asked first."""
    by_call: defaultdict[tuple[str, ...], list[Any]] = defaultdict(list)
    for sample in samples:
        by_call[tuple(sample.labels[label] for label in (_OPERATION, _PROVIDER, _MODEL))].append(sample)
    rows = [dict(zip(("operation", "provider", "model"), key, strict=True)) | _figures(by_call[key]) for key in by_call]
    return sorted(rows, key=lambda row: -row["count"])


def _figures(samples: Sequence[Any]) -> dict[str, Any]:
    ends = [sample for sample in samples if sample.name == f"{_DURATION}_count"]
    tokens = [sample for sample in samples if sample.name == f"{_USAGE}_sum"]
    return {
        "count": sum(sample.value for sample in ends),
        "errors": {sample.labels["error_type"]: sample.value for sample in ends if sample.labels["error_type"]},
        "tokens": {sample.labels["gen_ai_token_type"]: sample.value for sample in tokens},
        **_times(samples),
    }


def _times(samples: Iterable[Any]) -> dict[str, dict[str, float] | None]:
    """To the first output and to the end, of calls that succeeded: about how many seconds half of them took at most, and
    95 of 100; None without any.
    """
    counts: dict[str, Counter[float]] = {f"{_FIRST}_bucket": Counter(), f"{_DURATION}_bucket": Counter()}
    for sample in samples:
        if sample.name in counts and not sample.labels.get("error_type"):
            counts[sample.name][float(sample.labels["le"])] += sample.value
    return dict(zip(("first_output", "duration"), map(_shares, counts.values()), strict=True))


def _shares(counts: Counter[float]) -> dict[str, float] | None:
    buckets = sorted(counts.items())
    if not buckets or not buckets[-1][1]:
        return None
    return {word: round(_quantile(buckets, share), 3) for word, share in _SHARES.items()}


def _quantile(buckets: Sequence[tuple[float, float]], share: float) -> float:
    """From (bound, calls up to it), as Prometheus does it: evenly within a bucket; beyond the last bound, that bound."""
    rank = share * buckets[-1][1]
    for (low, before), (high, count) in pairwise([(0.0, 0.0), *buckets]):
        if count >= rank and count > before:
            return low if high == float("inf") else low + (high - low) * (rank - before) / (count - before)
    return buckets[-1][0]
