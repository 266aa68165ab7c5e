"""Hints for errors of `prx chat`: the nearest model of the provider's list, and the provider that was probably meant."""

from __future__ import annotations

from prx.accounts.choose import Accounts, ModelRef
from prx.client import Client
from prx.errors import Error, NotFoundError
from prx.text import nearest


def add(error: Error, client: Client, model: str | ModelRef | None) -> None:
    """Add to an error of a call what the model's name may have been meant to be."""
    meant = of_name(client.accounts, model) if isinstance(model, str) else ""
    if meant:
        said = meant.rpartition("; ")[2] in str(error)
        error.hint = error.hint if said else f"{meant} {error.hint}".strip()
    else:
        _near_models(error, client, model)


def of_name(accounts: Accounts, model: str) -> str:
    """A sentence for a model's name that is, or begins with, almost the name of a provider; "" for any other."""
    first, slash, _ = model.partition("/")
    if any(route.fits(model) for route in accounts.config.routes) or (slash and accounts.knows(first)):
        return ""
    if not slash:
        return f"{model!r} is a provider: -p {model}, or -m {model}/MODEL." if accounts.knows(model) else ""
    near = nearest(first, accounts.names).removeprefix("; ")
    return f"No provider is called {first!r}; {near}" if near else ""


def _near_models(error: Error, client: Client, model: str | ModelRef | None) -> None:
    """Add a hint to the error of an unknown model: the nearest name in the provider's list."""
    if not isinstance(error, NotFoundError) or "model" not in error.message.lower():
        return
    try:
        account, name = client.accounts.choose(model)
        known = client.models(account.settings.name or account.id, timeout=5)
    except Error:
        return
    close = "" if name in known else nearest(name, known)
    error.hint = f"{account.id} has no model {name!r}{close}" if close else error.hint
