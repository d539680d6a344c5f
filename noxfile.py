"""Every task of the project: ``nox -l`` lists them, ``nox -s demo -- --help`` tells what one takes.

All sessions share one environment, ``.nox/lunation``, made on first use and again when requirements.txt changes. In its
``bin`` lies the console script ``lunation``.

``laptop``, a distribution of its own, is not installed into it: ``python -m laptop`` runs its sources.
An installed copy would be an older one after each edit, and a folder that is itself the package cannot be installed in
place (https://github.com/pfmoore/editables/issues/20). What it depends on is in requirements.txt.
"""

import hashlib
import importlib.util
import shutil
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "none"

ROOT = Path(__file__).parent
ENVIRONMENT = ROOT / ".nox" / "lunation"
PYTHON = "3.11"
CHECKED = (
    "backtest",
    "benchmarks",
    "schemas",
    "telemetry",
    "dataflow",
    "datasets",
    "functions",
    "spark",
    "lunation",
    "laptop",
    "rehearsal",
    "demo",
    "noxfile.py",
)
COMMAND = ("pyproject.toml", "lunation/launch.py")
"""What the console script is made of."""
HOT_PATH_TESTS = ("tests/functions", "tests/dataflow")
LOCKED = ("functions/ingest_fast", "functions/classify", "functions/submit", "dataflow", "spark")
"""The units with a lock: ``requirements.in`` says what each asks for, ``requirements.txt`` what that is."""
LOCKED_FOR = ("--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_28")
NO_PYTHON = (
    f"Lunation needs Python {PYTHON} (Spark 3.5 and Dataproc's image run on it). This one is "
    f"{sys.version_info.major}.{sys.version_info.minor}, and no python{PYTHON} could be found or fetched. "
    f'Install Python {PYTHON}, or run: pip install "nox[uv]" (uv fetches it for you).'
)


def environment(session: nox.Session) -> str:
    """The interpreter of the shared environment, by uv (seconds) where it is installed, else by venv and pip."""
    python = ENVIRONMENT / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    stamp = ENVIRONMENT / "requirements.sha256"
    wanted = hashlib.sha256((ROOT / "requirements.txt").read_bytes()).hexdigest()
    if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
        install(session, python)
        stamp.write_text(wanted)
    stamp = ENVIRONMENT / "command.sha256"
    # The script names its interpreter by its path, which is another one when somebody has moved the clone.
    parts = [str(python.parent.resolve()).encode(), *((ROOT / file).read_bytes() for file in COMMAND)]
    wanted = hashlib.sha256(b"".join(parts)).hexdigest()
    if not (stamp.exists() and stamp.read_text() == wanted) and install_command(session, python):
        stamp.write_text(wanted)
    tried = ENVIRONMENT / "class-archive.tried"
    if not tried.exists():
        session.log("Keeping Spark's classes as Java has them, so that jobs start faster (once; half a minute)")
        # 3: this Java cannot. Then it says so, and all goes on.
        session.run(str(python), "-m", "laptop.dataproc.make_class_archive", external=True, success_codes=[0, 3])
        tried.touch()
    return str(python)


def install(session: nox.Session, python: Path) -> None:
    """Make the shared environment anew, with what requirements.txt pins."""
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    session.log("Installing the packages of requirements.txt into .nox/lunation (once; about a minute)")
    if importlib.util.find_spec("uv"):
        uv = [sys.executable, "-m", "uv", "--quiet"]
        made = session.run(
            *uv, "venv", "--python", PYTHON, str(ENVIRONMENT), external=True, silent=True, success_codes=range(256)
        )
        if not python.exists():
            session.error(f"{NO_PYTHON}\n{made}")
        # Compiled, as pip does: or each of the demo's processes compiles what it imports.
        command = [*uv, "pip", "install", "--compile-bytecode", "--python", str(python)]
        command += ["--requirement", "requirements.txt"]
        session.run(*command, external=True)
    else:
        base = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which(f"python{PYTHON}")
        if base is None:
            session.error(NO_PYTHON)
        session.run(base, "-m", "venv", str(ENVIRONMENT), external=True)
        session.run(str(python), "-m", "pip", "install", "--quiet", "--requirement", "requirements.txt", external=True)


def install_command(session: nox.Session, python: Path) -> bool:
    """Put the console script ``lunation`` into the shared environment, if PyPI, which has what builds it, can be had.

    It runs the sources where they lie, so it is only installed again when what it is made of changes.
    """
    session.log("Installing the command into .nox/lunation/bin (seconds)")
    uv = importlib.util.find_spec("uv") is not None
    if uv:
        command = [sys.executable, "-m", "uv", "--quiet", "pip", "install", "--python", str(python), "--reinstall"]
    else:
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--force-reinstall"]
    try:
        if not uv:
            session.run(str(python), "-m", "ensurepip", external=True, silent=True)  # uv makes one without pip
        session.run(*command, "--no-deps", str(ROOT), external=True)
    except nox.command.CommandFailed:
        session.warn(f"The command is tried again the next time. Until then: alias lunation='{python} -m lunation'")
        return False
    return True


def module(session: nox.Session, *arguments: str) -> None:
    """Run ``python -m`` in the shared environment with the arguments given after ``--``."""
    command = (environment(session), "-m", *arguments, *session.posargs)
    # After Ctrl-C nox would end it within half a second, and with it the servers that are to be ended in order.
    session.run(*command, external=True, interrupt_timeout=None)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the whole loop on real records: deploy, backfill, train, classify live, train again, switch, account."""
    module(session, "demo")


@nox.session
def up(session: nox.Session) -> None:
    """Keep the servers running on the demo's state, and print what to try. Ctrl-C ends everything."""
    module(session, "demo.up")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, in parallel. ``-- -k word`` chooses, ``-- -m thorough`` draws documents for half an hour."""
    # In the order of tests/conftest.py, which has the long ones first.
    module(session, "pytest", "-n", "auto", "--dist", "loadscope", "--no-loadscope-reorder")


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure how much of what every record passes is run by its tests, and hold it to a floor (pyproject.toml)."""
    python = environment(session)
    chosen = session.posargs or HOT_PATH_TESTS
    session.run(python, "-m", "coverage", "run", "-m", "pytest", "-q", *chosen, external=True)
    session.run(python, "-m", "coverage", "report", external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types, and who imports whom."""
    python = environment(session)
    session.run(python, "-m", "ruff", "check", external=True)
    session.run(python, "-m", "ruff", "format", "--check", external=True)
    session.run(str(Path(python).with_name("lint-imports")), "--no-logo", "--no-cache", external=True)
    session.run(python, "-m", "mypy", *CHECKED, external=True)


@nox.session
def lock(session: nox.Session) -> None:
    """Pin what each unit installs, to the last package and hash; ``-- --check`` only says whether that is so."""
    if not importlib.util.find_spec("uv"):
        session.error('locks are made and checked by uv: pip install "nox[uv]"')
    for unit in LOCKED:
        _lock(session, unit, check="--check" in session.posargs)


def _lock(session: nox.Session, unit: str, *, check: bool) -> None:
    """Resolve a unit's requirements; to check, compare with the lock, and install that into an environment of its own.

    What the tests run with binds the versions, and what is locked already is kept while it fits.
    """
    uv = [sys.executable, "-m", "uv", "pip", "--quiet"]
    locked = ROOT / unit / "requirements.txt"
    made = Path(session.create_tmp(), "requirements.txt") if check else locked
    if check:
        shutil.copyfile(locked, made)
    resolved = ["--constraint", "requirements.txt", "--generate-hashes", "--no-header", "--no-annotate", *LOCKED_FOR]
    session.run(*uv, "compile", f"{unit}/requirements.in", *resolved, "--output-file", str(made), external=True)
    if not check:
        return
    # Without the hashes: a wheel that is published later adds one, and those that are there still hold.
    if pins(made) != pins(locked):
        session.error(f"{unit}/requirements.txt is not what its requirements.in resolves to: run nox -s lock")
    empty = Path(session.create_tmp(), "environment")
    session.run(*uv[:3], "venv", "--quiet", "--clear", "--python", environment(session), str(empty), external=True)
    into = ["--python", str(empty / "bin" / "python")]
    session.run(*uv, "install", *into, "--require-hashes", "--requirement", str(locked), external=True)
    session.run(*uv, "check", *into, external=True)


def pins(lock_file: Path) -> list[str]:
    """``name==version`` of each package in a lock."""
    return [line.split()[0] for line in lock_file.read_text().splitlines() if "==" in line]


@nox.session
def deploy(session: nox.Session) -> None:
    """Deploy to a target of lunation.toml: ``nox -s deploy -- --target NAME``."""
    module(session, "lunation", "deploy")


@nox.session
def destroy(session: nox.Session) -> None:
    """Take a deployment down; data stays unless it is named."""
    module(session, "lunation", "destroy")


@nox.session
def rehearse(session: nox.Session) -> None:
    """Live through a deployment to Google's on this machine, and kill it at its rows. ``-- --json FILE``, ``--all``."""
    module(session, "rehearsal")


@nox.session
def bench(session: nox.Session) -> None:
    """Run a benchmark: ``nox -s bench -- archive``."""
    if "training" in session.posargs:
        # What it is measured against is no part of the shared environment otherwise: the dependency group `bench`.
        python = environment(session)
        others = nox.project.dependency_groups(nox.project.load_toml(ROOT / "pyproject.toml"), "bench")
        uv = [sys.executable, "-m", "uv", "--quiet", "pip", "install", "--python", python]
        pip = [python, "-m", "pip", "install", "--quiet"]
        session.run(*(uv if importlib.util.find_spec("uv") else pip), *others, external=True)
    module(session, "benchmarks")


@nox.session
def backtest(session: nox.Session) -> None:
    """Let a real year pass in cycles of four weeks: does retraining pay? ``-- --use-case weather`` for another one."""
    module(session, "backtest")
