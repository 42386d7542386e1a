"""axe-core, the accessibility checker, from npm: `npm pack` needs Node and a network."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

PACKAGE = "axe-core@4.14.1"


def axe_script(folder: Path) -> str:
    """Fetch axe-core into a folder and return its source, or skip."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("axe-core comes through npm, which is not installed")
    fetch = [npm, "pack", PACKAGE, "--silent"]
    done = subprocess.run(fetch, cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"{PACKAGE} could not be fetched: {done.stderr.strip()[-200:]}")
    (packed,) = folder.glob("axe-core-*.tgz")
    with tarfile.open(packed) as archive:
        source = archive.extractfile("package/axe.min.js")
        assert source is not None
        return source.read().decode("utf-8")


def serious_faults(page, script: str) -> list[str]:
    """List the serious and critical faults that axe-core finds on a page."""
    page.evaluate(script)
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{fault['id']}: {node['html'][:160]}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"][:3]
    ]
