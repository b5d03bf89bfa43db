"""A terminal that the pages are typed into: one bash, servers in the background, a free port in place of 8000."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from tests.docs.pages import Command, File, Step, Stop, prints_as_shown
from tests.support.nursery import programs
from tests.support.plugins import WITHOUT_FOREIGN_PLUGINS

__all__ = ["Terminal"]

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds that a command may take."""
_END = "end-of-the-command"
_SERVER = re.compile(r"(?:\w+=\S+ )*(?:uvicorn|fastapi (?:dev|run)|fastapi-sqlalchemy serve)\b")
_PROVIDED = re.compile(r"python3? -m venv |(?:\.|source) \.venv/bin/activate|pip install |docker compose up\b")


class Terminal:
    """Types the steps of a page, in ``folder``, as somebody does who has just opened it.

    What the page installs is there already: ``pip install`` is checked against the extras of the package, and
    ``docker compose up`` against the URL that the pages use afterwards. ``substitutes`` are texts of the pages and what
    to type in their place, such as the URL of a database.
    """

    def __init__(self, folder: Path, substitutes: dict[str, str] | None = None) -> None:
        self._start = folder
        self._folder = folder
        self._port = _free_port()
        given = {**(substitutes or {}), "127.0.0.1:8000": f"127.0.0.1:{self._port}"}
        self._substitutes = {shown: given[shown] for shown in sorted(given, key=len, reverse=True)}
        self._server: int | None = None
        self._servers = 0
        path = os.pathsep.join((str(programs()), str(Path(sys.executable).parent), os.environ["PATH"]))
        (folder / ".curlrc").write_text("silent\nshow-error\n")  # as curl does by itself where it prints to a screen
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env={
                "PATH": path,
                "HOME": str(folder),
                "CURL_HOME": str(folder),
                "LANG": "C.UTF-8",
                "TERM": "dumb",
                "COLUMNS": "100",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONUNBUFFERED": "1",
                "PYTEST_ADDOPTS": " ".join((*WITHOUT_FOREIGN_PLUGINS, "-p no:asyncio -p no:cacheprovider")),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_server()
        assert self._bash.stdin is not None and self._bash.stdout is not None
        self._bash.stdin.close()
        self._bash.wait(PATIENCE)
        self._bash.stdout.close()

    def take(self, step: Step) -> str:
        """Do a step and return what it printed; AssertionError where that is not what the page shows."""
        where = f"{step.page}:{step.line}"
        if isinstance(step, Stop):
            self._stop_server()
            return ""
        if isinstance(step, File):
            file = self._folder / step.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._typed(step.text))
            return ""
        if _PROVIDED.match(step.text):
            self._check_provided(step)
            return ""
        if _SERVER.match(step.text):
            printed = self._serve(self._typed(step.text))
            assert not step.shown or prints_as_shown((*step.shown, "..."), printed), f"{where} printed\n{printed}"
            return printed
        printed, status = self._type(self._typed(step.text))
        assert step.may_fail or status == 0, f"{where} ended with {status} and printed\n{printed}"
        assert prints_as_shown(step.shown, printed), f"{where} printed\n{printed}"
        return printed

    def _typed(self, text: str) -> str:
        for shown, real in self._substitutes.items():
            text = text.replace(shown, real)
        return text

    def _shown(self, text: str) -> str:
        for shown, real in self._substitutes.items():
            text = text.replace(_masked(real), _masked(shown)).replace(real, shown)
        return text

    def _type(self, command: str) -> tuple[str, int]:
        assert self._bash.stdin is not None and self._bash.stdout is not None
        self._bash.stdin.write(f"{command}\nstatus=$?; printf '\\n{_END} %s %s\\n' $status \"$PWD\"; (exit $status)\n")
        self._bash.stdin.flush()
        limit = threading.Timer(PATIENCE, os.killpg, (self._bash.pid, signal.SIGKILL))
        limit.start()
        lines: list[str] = []
        try:
            for line in self._bash.stdout:
                if line.startswith(_END):
                    _, status, folder = line.rstrip("\n").split(" ", 2)
                    self._folder = Path(folder)
                    return self._shown("".join(lines)[:-1]).rstrip("\n"), int(status)
                lines.append(line)
        finally:
            limit.cancel()
        raise AssertionError(f"bash ended during {command!r} and printed\n{''.join(lines)}")

    def _serve(self, command: str) -> str:
        self._stop_server()
        self._servers += 1
        log = self._start / f"server-{self._servers}.log"
        port = "" if "--port" in command or not command.startswith(("uvicorn", "fastapi")) else f" --port {self._port}"
        printed, _ = self._type(f"{command}{port} > {log} 2>&1 & echo $!")
        self._server = int(printed.split()[-1])
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            if not _runs(self._server):
                self._server = None
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    break
            time.sleep(0.05)
        return self._shown(log.read_text()).rstrip("\n")

    def _stop_server(self) -> None:
        if self._server is not None:
            self._type(f"kill -TERM {self._server}; wait {self._server}")
            self._server = None

    def _check_provided(self, command: Command) -> None:
        """What a page installs is an extra that exists; a database that it starts is the one it uses afterwards."""
        for package, extras in re.findall(r"(fastapi-sqlalchemy)\[([\w,]+)\]", command.text):
            known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            assert set(extras.split(",")) <= set(known), f"{command.page}:{command.line}: {package} has {sorted(known)}"
        if command.text.startswith("docker"):
            service = yaml.safe_load((self._folder / "compose.yaml").read_text())["services"]["database"]
            named = service["environment"]
            url = "postgresql://{POSTGRES_USER}:{POSTGRES_PASSWORD}@127.0.0.1:5432/{POSTGRES_DB}".format(**named)
            assert url in self._substitutes, f"{command.page}:{command.line} starts {url}"
            assert service["ports"] == ["127.0.0.1:5432:5432"]


def _masked(url: str) -> str:
    return re.sub(r"(://[^:/@]+):[^@/]+@", r"\1:***@", url)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
