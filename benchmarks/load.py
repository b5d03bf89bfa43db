"""Starts a contender, loads it with wrk, and reads what it cost."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Sample:
    """One run of wrk: requests/s, seconds of server CPU per request, latencies in seconds, failed requests."""

    rate: float
    cpu: float
    p50: float
    p99: float
    errors: int


class Server:
    """One uvicorn worker that serves one contender on loopback."""

    def __init__(self, contender: str, url: str, log: Path, python: Path | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._log = log.open("ab")
        command = [
            str(python or sys.executable),
            "-m",
            "uvicorn",
            f"benchmarks.contenders.{contender}:app",
            "--port",
            str(self.port),
        ]
        self.process = subprocess.Popen(
            [*command, "--no-access-log", "--log-level", "warning"],
            env={**os.environ, "BENCHMARK_URL": url},
            stdout=self._log,
            stderr=self._log,
        )
        self._wait()

    def _wait(self) -> None:
        for _ in range(600):
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended at its start; see {self._log.name}")
            try:
                self.get("/plain")
                return
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the server did not answer within 30 seconds")

    def get(self, path: str) -> bytes:
        """The body of a GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body

    def post(self, path: str, body: bytes) -> bytes:
        """The body of the answer to a POST of JSON."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", body, {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: bytes = answer.read()
            return found

    def cpu_seconds(self) -> float:
        """CPU time of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def peak_memory(self) -> int:
        """Peak resident memory in KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+)", status)
        return int(found.group(1)) if found else 0

    def load(self, path: str, *, seconds: float, clients: int, script: Path | None = None) -> Sample:
        """Load one route with wrk for some seconds; ``script`` makes requests other than GET."""
        before = self.cpu_seconds()
        output = subprocess.run(
            [
                *("wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "--latency"),
                *(() if script is None else ("-s", str(script))),
                f"http://127.0.0.1:{self.port}{path}",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        cpu = self.cpu_seconds() - before
        found = re.search(r"(\d+) requests in", output)
        total = int(found.group(1)) if found else 0
        rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
        failed = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
        broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
        return Sample(
            rate=float(rate.group(1)) if rate else 0.0,
            cpu=cpu / total if total else float("inf"),
            p50=_latency(output, "50%"),
            p99=_latency(output, "99%"),
            errors=(int(failed.group(1)) if failed else 0) + (sum(map(int, broken.groups())) if broken else 0),
        )

    def stop(self) -> None:
        """End the process that this object started."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


def _latency(output: str, share: str) -> float:
    found = re.search(rf"{share}\s+([\d.]+)(us|ms|s|m)", output)
    return float(found.group(1)) * _UNITS[found.group(2)] if found else 0.0
