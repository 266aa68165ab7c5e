"""Known vulnerabilities in pinned packages: python .ci/audit.py FILE [options of pip-audit]

Fails where one is known. pip-audit calls everything clean that its service does not know, and a mirror of the
package index knows nothing; so a version that is known to be bad is asked for as well. Where nobody objects to that
one, nobody was asked, and a line says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

KNOWN_TO_BE_BAD = "urllib3==1.25.8"  # CVE-2020-26137 and many since


def rows(requirements: Path, options: list[str]) -> list[dict[str, Any]]:
    """What pip-audit finds of each line; nothing where its service cannot be reached."""
    run = [sys.executable, "-m", "pip_audit", "-r", requirements, "--no-deps", "--disable-pip", "-f", "json", *options]
    done = subprocess.run(run, capture_output=True, text=True, check=False)  # noqa: S603 - the arguments are CI's own
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return []
    return found


def service_answers(options: list[str]) -> bool:
    """Whether somebody objects to what is known to be bad."""
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder, "bad.txt")
        asked.write_text(KNOWN_TO_BE_BAD, encoding="utf-8")
        return any(row.get("vulns") for row in rows(asked, options))


def say(text: str) -> None:
    sys.stdout.write(f"audit: {text}\n")


def main(file: str, *options: str) -> int:
    """Say what is known of the packages of a file; 1 where one has to be replaced."""
    if not service_answers(list(options)):
        say("no vulnerability service can be reached from here, so nothing was checked")
        return 0
    found = rows(Path(file), list(options))
    unknown = [row["name"] for row in found if "vulns" not in row]
    known = [(row["name"], row["version"], vuln) for row in found for vuln in row.get("vulns", ())]
    for name, version, vuln in known:
        say(f"{name} {version}: {vuln['id']}, mended in {', '.join(vuln['fix_versions']) or 'no version'}")
    say(f"{len(found) - len(unknown)} packages looked up, {len(known)} known vulnerabilities")
    if unknown or not found:
        say(f"not looked up: {', '.join(unknown) or file}")
    return 1 if known or unknown or not found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
