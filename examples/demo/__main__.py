"""``make run``: serve the demo on loopback and say where it is."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import uvicorn

HOST = "127.0.0.1"


def listening_socket(given: str) -> socket.socket:
    """A socket on this port of loopback; ends the program with one line where that cannot be."""
    if not (given.isascii() and given.isdigit() and int(given) < 65536):
        sys.exit(f"PORT is a number from 0 to 65535, not {given!r}.")
    try:
        return socket.create_server((HOST, int(given)), backlog=2048)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        sys.exit(f"Port {given} cannot be used: {reason}. Choose another one: make run PORT=8001")


def main() -> None:
    """Serve the demo; PORT chooses the port (0: any free one), DATABASE_URL another database."""
    listener = listening_socket(os.environ.get("PORT") or "8000")
    base = f"http://{HOST}:{listener.getsockname()[1]}"
    if not os.environ.get("DATABASE_URL"):
        Path(".demo").mkdir(exist_ok=True)
    print(
        f"\n  FastAPI-SQLAlchemy demo\n\n  App      {base}\n  Docs     {base}/docs\n"
        f"  Health   {base}/health/ready\n\n  Ctrl+C stops it.\n",
        flush=True,
    )
    server = uvicorn.Server(uvicorn.Config("examples.demo.app:app", log_level="warning"))
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        print("Stopped.")
    if not server.started:
        sys.exit(1)


if __name__ == "__main__":
    main()
