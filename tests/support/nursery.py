"""Starts programs out of one process that has imported everything: each starts in a few hundredths of a second.

``python()`` takes the place of ``sys.executable``. Tests of the start itself, of what is imported and of what warns
meanwhile want the real one. What runs in that process is ``tests.support.interpreter``.
"""

from __future__ import annotations

import marshal
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = [
    "FORKS",
    "ROOT",
    "Nursery",
    "close_nursery",
    "environment",
    "fork_server",
    "lives",
    "open_nursery",
    "programs",
    "python",
]

ROOT = Path(__file__).parents[2]
FORKS = hasattr(os, "pidfd_open")
"""Whether this system can do it; elsewhere than on Linux each program is a Python of its own."""
PATIENCE = 20.0
SHEBANG = 127
"""The longest first line of a program that every Linux takes."""
PROGRAMS = ("alembic", "fastapi", "fastapi-sqlalchemy", "pytest", "python", "python3", "uvicorn")


class Nursery:
    """A process of its own: ``folder`` holds the programs of an environment that it runs, python among them.

    It imports when it is first asked, and then whatever of its list there is.
    """

    def __init__(self, python: Path = Path(sys.executable)) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path(python).parent
        if not FORKS:
            return
        self.folder = Path(tempfile.mkdtemp(prefix="fsa-python-"))
        start = f"#!{python} -IS\n"
        if " " in str(python) or len(start) > SHEBANG:
            start = f"#!/bin/sh\n'''exec' \"{python}\" -IS \"$0\" \"$@\"\n' '''\n"  # which adds to the environment
        for name in PROGRAMS:
            program = self.folder / name
            program.write_text(start + Path(__file__).with_name("program.py").read_text())
            program.chmod(0o700)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(self.folder / "socket"))
            listener.listen(64)
            self._process = subprocess.Popen(
                [python, "-m", "tests.support.interpreter", self.folder, str(listener.fileno())],
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )

    def close(self) -> None:
        """End it, with all that it has forked, and remove the folder."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(PATIENCE)


_nursery: Nursery | None = None
_servers: dict[int, socket.socket] = {}


def open_nursery() -> None:
    """Start the one that this process uses, and those that it starts from now on."""
    global _nursery
    _nursery = Nursery()
    os.environ["FSA_TEST_NURSERY"] = str(_nursery.folder)


def close_nursery() -> None:
    """Kill the servers that were started here, and end the nursery if it was."""
    global _nursery
    while _servers:
        _servers.popitem()[1].close()
    if _nursery is not None:
        _nursery.close()
        _nursery = None
        del os.environ["FSA_TEST_NURSERY"]


def programs() -> Path:
    """The folder of the programs, for a PATH: pytest, uvicorn and so on, each as in the environment's own folder."""
    if "FSA_TEST_NURSERY" not in os.environ:
        open_nursery()
    return Path(os.environ["FSA_TEST_NURSERY"])


def python() -> str:
    """The program of a Python that has imported everything.

    It hands over its arguments, folder, environment and standard streams, passes SIGINT, SIGTERM and SIGHUP on, and
    ends as what it started does, which is another process; when it is killed, that is too, with what it has forked.
    """
    return str(programs() / "python")


def fork_server(
    arguments: Sequence[str], *, folder: Path, log: Path, variables: Mapping[str, str] | None = None
) -> int:
    """Start uvicorn with these arguments and variables; returns the id of a process that is no child of this one."""
    command = ["-m", "uvicorn", *arguments]
    around = {**environment(), **(variables or {})}
    if not FORKS:
        with log.open("ab") as output:
            process = subprocess.Popen([sys.executable, *command], cwd=folder, env=around, stdout=output, stderr=output)
        threading.Thread(target=process.wait, daemon=True).start()
        return process.pid
    for pid in [pid for pid in _servers if not lives(pid)]:
        _servers.pop(pid).close()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(str(programs() / "socket"))
    order = marshal.dumps((command, str(folder), around))
    with log.open("ab") as output, open(os.devnull, "rb") as nothing:
        socket.send_fds(connection, [order], [nothing.fileno(), output.fileno(), output.fileno()])
    pid = int(connection.recv(20))
    _servers[pid] = connection
    return pid


def lives(pid: int) -> bool:
    """Whether a process of ours is still there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def environment() -> dict[str, str]:
    """The environment of a Python that finds the package and the tests."""
    paths = [str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
