"""Check the sidecar's dependencies: ``scripts/audit.py PYTHON SBOM [--require-advisories]``, run by ``make audit``.

PYTHON is the interpreter of an environment with requirements/run.txt in it and nothing else; SBOM is the file for the
bill of materials (CycloneDX, JSON). Four checks, one line each, exit status 1 if one fails:

- is every version pinned with hashes, and installed as pinned?
- do the packages fit together (``pip check``)?
- is every licence among :data:`LICENCES`?
- is there an advisory against any package (pip-audit)? An advisory service that cannot be reached is reported; with
  --require-advisories that fails.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

#: Words of permissive licences, and of MPL-2.0.
LICENCES = ("apache", "mit", "bsd", "isc", "psf", "python software foundation", "mpl-2.0")
LOCK = Path("requirements/run.txt")
#: The project itself, and the packages of a new virtual environment.
NOT_LOCKED = {"websocket-exporter", "pip", "setuptools"}
TOOLS = Path(sys.executable).parent


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command and return its outcome."""
    return subprocess.run(command, capture_output=True, text=True)


def name_of(text: str) -> str:
    """Return a package's name in its normal form."""
    return re.sub(r"[-_.]+", "-", text).lower()


def locked() -> dict[str, str]:
    """Return versions by package; ValueError for a line that pins nothing, or has no hash."""
    versions = {}
    for line in LOCK.read_text().replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            pin, *hashes = line.split()
            name, pinned, version = pin.partition("==")
            if not pinned or not hashes:
                raise ValueError(f"not pinned with hashes: {pin}")
            versions[name_of(name)] = version
    return versions


def pins(python: str) -> str:
    """Return the packages that differ from the pins; empty if none does."""
    listed = json.loads(run(str(TOOLS / "pip"), "--python", python, "list", "--format", "json").stdout)
    installed = {name_of(package["name"]): package["version"] for package in listed}
    try:
        wanted = locked()
    except ValueError as error:
        return str(error)
    found = {name: version for name, version in installed.items() if name not in NOT_LOCKED}
    return ", ".join(f"{name} {version}" for name, version in sorted(wanted.items() ^ found.items()))


def fits(python: str) -> str:
    """Return conflicts between packages."""
    checked = run(str(TOOLS / "pip"), "--python", python, "check")
    return "" if checked.returncode == 0 else " ".join(checked.stdout.split())


def licences(python: str) -> str:
    """Return packages with another licence."""
    listed = json.loads(
        run(str(TOOLS / "pip-licenses"), "--python", python, "--from", "mixed", "--format", "json").stdout
    )
    return ", ".join(
        f"{package['Name']}: {package['License']}"
        for package in listed
        if name_of(package["Name"]) not in NOT_LOCKED
        and not any(word in package["License"].lower() for word in LICENCES)
    )


def advisories() -> tuple[str, bool]:
    """Return known vulnerabilities, and whether an advisory service answered."""
    command = (
        str(TOOLS / "pip-audit"),
        "--requirement",
        str(LOCK),
        "--require-hashes",
        "--disable-pip",
        "--format",
        "json",
    )
    asked = run(*command, "--timeout", "15")
    try:
        packages = json.loads(asked.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        return "", False
    found = [f"{package['name']}: {flaw['id']}" for package in packages for flaw in package.get("vulns", ())]
    return ", ".join(found), any("vulns" in package for package in packages)


def main() -> int:
    """Print the results and write the bill of materials."""
    python, sbom, *flags = sys.argv[1:]
    status = 0
    for question, answer in (("pins", pins(python)), ("fit", fits(python)), ("licences", licences(python))):
        print(f"{question}: {answer or 'good'}")
        status |= bool(answer)
    flaws, asked = advisories()
    print(f"advisories: {flaws or ('none' if asked else 'NOT CHECKED, no advisory service could be reached')}")
    status |= bool(flaws) or (not asked and "--require-advisories" in flags)
    Path(sbom).parent.mkdir(parents=True, exist_ok=True)
    command = (str(TOOLS / "cyclonedx-py"), "environment", "--output-reproducible", "--of", "JSON", "-o", sbom, python)
    made = run(*command)
    if made.returncode:
        print(made.stderr, file=sys.stderr)
        return 1
    print(f"bill of materials: {len(json.loads(Path(sbom).read_text())['components'])} components in {sbom}")
    return status


if __name__ == "__main__":
    sys.exit(main())
