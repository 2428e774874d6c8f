"""Where the numbers of a benchmark come from."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import torch


def origin() -> dict[str, Any]:
    """Where numbers come from: machine, versions, commit."""

    def git(*words: str) -> str:
        done = subprocess.run(("git", *words), cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    names = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", names.read_text("utf-8")) if names.exists() else []
    return {
        "machine": f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "processor": models[0] if models else platform.processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "commit": git("rev-parse", "HEAD") + (" and changes" if git("status", "--porcelain", "-uno") else ""),
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        "load before": list(os.getloadavg()),
    }
