"""The lowest versions that pyproject.toml allows, as pins: of what prx needs to run, and of what runs its tests."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

RUNNERS = {"hypothesis", "pytest", "pytest-xdist", "vcrpy"}
project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
bounds = [re.match(r"([\w-]+)>=([\d.]+),<\d", line) for line in project["dependencies"]]
bounds += [re.match(r"([\w-]+)>=([\d.]+),<\d", line) for line in project["optional-dependencies"]["test"]]
if None in bounds:
    sys.exit("floors: each dependency has a lowest version and stops at another: name>=1.2,<3")
needed = len(project["dependencies"])
for place, found in enumerate(bounds):
    if found and (place < needed or found[1] in RUNNERS):
        sys.stdout.write(f"{found[1]}=={found[2]}\n")
