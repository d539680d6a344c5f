"""A function's source: a zip, unpacked and checked as the build in the cloud would."""

import asyncio
import importlib.metadata
import re
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement

MAX_FILES = 20_000
MAX_UNPACKED_BYTES = 500 * 1024 * 1024
RUNTIME = "python311"
_HASHES = re.compile(r"(^|\s)--hash=\w+:[0-9a-f]+")


class BuildError(Exception):
    """The source cannot be deployed; the text says why and what to do."""


def unpack(archive: Path, folder: Path) -> None:
    """Unpack ``archive`` into ``folder``, which is made anew.

    Raises:
        BuildError: it is no zip, too large, or has a member that would lie outside ``folder``.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as content:
            members = content.infolist()
            if len(members) > MAX_FILES:
                raise BuildError(f"the zip has {len(members)} members; {MAX_FILES} are allowed")
            if sum(member.file_size for member in members) > MAX_UNPACKED_BYTES:
                raise BuildError(f"the zip unpacks to more than {MAX_UNPACKED_BYTES >> 20} MB")
            for member in members:
                _check_member(member)
            content.extractall(folder)
    # zipfile says NotImplementedError to a compression that it does not know, and RuntimeError to an encrypted member.
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise BuildError(f"the source is no zip that can be read: {error}") from error


def _check_member(member: zipfile.ZipInfo) -> None:
    path = PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
        raise BuildError(f"the zip has a member outside its folder: {member.filename!r}")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise BuildError(f"the zip has a symbolic link, which is not unpacked here: {member.filename!r}")


async def check(folder: Path) -> None:
    """Check what can be checked before the function is started.

    Raises:
        BuildError: no main.py, or a requirement that this machine's environment does not meet.
    """
    if not (folder / "main.py").is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise BuildError(f"missing main.py in the root of the source; found: {found}")
    requirements = folder / "requirements.txt"
    if requirements.exists():
        problems = await asyncio.to_thread(unmet, requirements.read_text())
        if problems:
            raise BuildError(
                "requirements.txt asks for what this environment does not have (on a laptop all functions share "
                "one): " + "; ".join(problems)
            )


def unmet(requirements: str) -> list[str]:
    """What is wrong with each line of a requirements.txt that the running environment does not meet.

    A backslash continues a line, as pip has it. Hashes are of files, and nothing is installed from files here, so they
    are not looked at.
    """
    problems = []
    continued = False
    for number, line in enumerate(requirements.splitlines(), 1):
        text = _HASHES.sub("", line.partition(" #")[0]).strip()
        before, continued = continued, text.endswith("\\")
        text = text.removesuffix("\\").strip()
        if not text or text.startswith("#"):
            continue
        if before:
            problems.append(f"line {number}: {text!r} continues a line; only hashes are read in such a place")
            continue
        if text.startswith("-"):
            problems.append(f"line {number}: options such as {text.split()[0]} are not read here")
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            problems.append(f"line {number}: {text!r} is no requirement: {error}")
            continue
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        if requirement.url is not None:
            problems.append(f"line {number}: {requirement.name} comes from a URL, which is not fetched here")
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{text} is asked for, {requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"{text} is asked for, {requirement.name} {version} is installed")
    return problems
