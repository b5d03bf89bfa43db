"""A Python that has imported everything, and forks into the programs that it is asked to run.

An order is one packet: arguments, folder and environment, with the three standard streams beside it. The answers are
the id of the process and, when it has ended, its status as ``subprocess`` tells it. A process whose order is taken
back, by closing the connection, is killed; all are when the standard input ends, and the folder of the socket goes.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import marshal
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import threading
import types
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMPORTED = (
    *("aiosqlite", "asyncmy", "asyncpg", "psycopg", "pymysql"),
    *(f"sqlalchemy.dialects.{name}" for name in ("mysql", "postgresql", "sqlite")),
    *("fastapi_sqlalchemy", "fastapi_sqlalchemy.cli", "fastapi_sqlalchemy.migrations", "fastapi_sqlalchemy.rest"),
    *("alembic", "fastapi.testclient", "pydantic.v1", "pytest", "uvicorn"),
    *("anyio._backends._asyncio", "uvicorn.lifespan.on", "uvicorn.loops.uvloop"),
    *("uvicorn.protocols.http.httptools_impl", "uvicorn.protocols.websockets.auto"),
)


@dataclass(frozen=True)
class Child:
    """A program that runs: its process, a handle that is readable when it has ended, and who ordered it."""

    pid: int
    handle: int
    connection: socket.socket

    def kill(self) -> None:
        """Kill it, and what it has forked into its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Wait for its end, and tell its status."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with suppress(OSError):
            self.connection.send(b"%d" % status)
        self.close()

    def close(self) -> None:
        """Let go of it."""
        os.close(self.handle)
        self.connection.close()


def main(folder: str, listener: socket.socket) -> None:
    """Serve; a process that was forked comes back from that to become its program."""
    connection = None
    try:
        if 0 not in select.select([0, listener], [], [])[0]:
            import_everything()
            connection = serve(listener)
    finally:
        if connection is None:
            shutil.rmtree(folder)
    if connection is not None:
        become(connection)


def import_everything() -> None:
    """Load what programs need, and forget what is of these tests alone."""
    for name in IMPORTED:
        with suppress(ModuleNotFoundError):  # an environment has the drivers that it wants
            importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    importlib.import_module("anyio").__doc__ = "PYTEST_DONT_REWRITE"  # pytest warns of a plugin that is loaded already
    gc.collect()
    gc.freeze()


def serve(listener: socket.socket) -> socket.socket | None:
    """Fork for every connection, and return it in the fork; None when the standard input has ended."""
    children: list[Child] = []
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(listener, select.POLLIN)
    with listener:
        while True:
            ready = {number for number, _ in poll.poll()}
            if 0 in ready:
                for child in children:
                    child.kill()
                    child.reap()
                return None
            for child in [*children]:
                if child.handle in ready:
                    poll.unregister(child.handle)
                    poll.unregister(child.connection)
                    children.remove(child)
                    child.reap()
                elif child.connection.fileno() in ready:
                    child.kill()
            if listener.fileno() in ready:
                connection, _ = listener.accept()
                pid = os.fork()
                with suppress(PermissionError):  # the child has done it, and is a real Python by now
                    os.setpgid(pid, pid)
                if pid == 0:
                    for child in children:
                        child.close()
                    return connection
                children.append(Child(pid, os.pidfd_open(pid), connection))
                poll.register(children[-1].handle, select.POLLIN)
                poll.register(connection, 0)  # its end alone: the packets are for the child


def become(connection: socket.socket) -> None:
    """Run the program that is ordered, and end as a Python that was started for it would."""
    packet, streams, _, _ = socket.recv_fds(connection, 2**20, 3)
    arguments, folder, environment = marshal.loads(packet)
    connection.send(b"%d" % os.getpid())
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    set_up(environment)
    program = types.ModuleType("__main__")
    sys.modules["__main__"] = program
    status = outcome(arguments, program.__dict__)
    threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does: threads first
    atexit._run_exitfuncs()
    program.__dict__.clear()
    gc.collect()  # what nobody closed warns now
    sys.stdout.flush()
    sys.stderr.flush()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def set_up(environment: dict[str, str]) -> None:
    """Heed the variables that Python reads when it starts."""
    sys.path[:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.stdout.reconfigure(line_buffering=os.isatty(1), write_through=bool(environment.get("PYTHONUNBUFFERED")))
    if options := environment.get("PYTHONWARNINGS"):
        warn(options.split(","))


def warn(options: list[str]) -> None:
    """Add filters of warnings."""
    sys.warnoptions.extend(options)
    warnings._processoptions(options)  # type: ignore[attr-defined]


def outcome(arguments: list[str], names: dict[str, Any]) -> int:
    """The status of a program that is run under these names."""
    try:
        run(arguments, names)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals is globals():
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def run(arguments: list[str], names: dict[str, Any]) -> None:
    """Do what ``python`` does with these arguments; what is not known here a real one does."""
    match arguments:
        case ["-W", option, *arguments]:
            warn([option])
            run(arguments, names)
        case ["-u", *arguments]:
            sys.stdout.reconfigure(write_through=True)
            run(arguments, names)
        case ["-m", module, *_]:
            sys.argv[:] = arguments[1:]
            sys.path.insert(0, os.getcwd())
            runpy._run_module_as_main(module)  # type: ignore[attr-defined]
        case ["-c", code, *_]:
            sys.argv[:] = ["-c", *arguments[2:]]
            sys.path.insert(0, "")
            exec(compile(code, "<string>", "exec", dont_inherit=True), names)
        case [script, *_] if os.path.isfile(script):
            sys.argv[:] = arguments
            sys.path.insert(0, str(Path(script).resolve().parent))
            names["__file__"] = os.path.abspath(script)
            exec(compile(Path(script).read_bytes(), names["__file__"], "exec", dont_inherit=True), names)
        case _:
            os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[2])) as _listener:
        main(sys.argv[1], _listener)
