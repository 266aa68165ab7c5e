"""Every input that fuzzing found worth keeping, played once more: no atheris is needed for that."""

from __future__ import annotations

import pytest
from fuzz import targets


@pytest.mark.parametrize("name", targets.TARGETS)
def test_kept_inputs(name):
    kept = targets.kept(name)
    assert kept
    for data in kept:
        targets.run(name, data)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_seeds(name):
    """What every run starts from breaks no law, either."""
    seeds = list(targets.SEEDS[name]())
    assert seeds
    for data in seeds:
        targets.run(name, data)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_kept_corpus_is_small(name):
    path = targets.HERE / "corpus" / f"{name}.jsonl"
    assert path.stat().st_size < 200_000
    assert len(targets.kept(name)) < 400
