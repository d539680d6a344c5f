"""Java's class-data archive: Spark's classes as Java has them in memory, in a file for jobs to start with.

A job of a template is a JVM of its own. Before it does anything, it reads some 15,000 classes from 250 jars, checks
and links them, every time anew. Java can do that once and map the result from then on (https://openjdk.org/jeps/350).
``make_class_archive.py`` does; ``nox`` calls it when it makes the environment. Jobs run without it, too.
"""

import os
import sys
from pathlib import Path

FOLDER = Path(sys.prefix) / "class-archive"
"""Part of the environment, from whose jars it is made."""
OF_JAVA = "java.jsa"
OF_SPARK = "spark.jsa"
MADE_BY = "made-by.txt"


def options(java: Path, folder: Path = FOLDER) -> str:
    """What makes the Java at home in ``java`` use the archive; empty if there is none, or another Java made it.

    Java itself goes without an archive whose jars have changed, and may say so on its output.
    """
    try:
        made_by = (folder / MADE_BY).read_text()
    except FileNotFoundError:
        return ""
    if made_by != identity(java):
        return ""
    # In quotes, which spark-submit takes away: a folder's name may have blanks.
    return f'-XX:SharedArchiveFile="{folder / OF_JAVA}{os.pathsep}{folder / OF_SPARK}"'


def identity(java: Path) -> str:
    """Which Java it is: where it is in truth, and its release."""
    release = java / "release"
    return f"{java.resolve()}\n{release.read_text() if release.exists() else ''}"
