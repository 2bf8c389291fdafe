"""Clients as people use them: programs on a root file system of their own, and a page with a phone (`make clients`)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def made() -> bool:
    """Whether they are there; asking makes nothing."""
    scripts = [[str(HERE.parent / "rootfs.sh"), "clients"], [str(HERE / "page.sh")]]
    asked = {**os.environ, "SWITCHBOARD_MADE": "1"}
    runs = [subprocess.run(script, env=asked, stdout=subprocess.DEVNULL, check=False) for script in scripts]
    return all(run.returncode == 0 for run in runs)
