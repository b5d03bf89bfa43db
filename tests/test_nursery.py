"""A program that is forked from the Python that has imported everything behaves as one that a real Python runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.nursery import FORKS, Nursery, lives, programs, python

pytestmark = pytest.mark.skipif(not FORKS, reason="PROGRAMS ARE FORKED ON LINUX ONLY")

ONE = "import sys; print(sys.argv, sys.path[:3], __name__, sys.stdin.read()); print('e', file=sys.stderr)"
PROGRAMS = {
    "code": ("-c", f"{ONE}; print(sys.dont_write_bytecode)", "a", "-b"),
    "module": ("-m", "module", "-c", "x"),
    "script": ("folder/script.py", "a"),
    "package without a main": ("-m", "package"),
    "no such module": ("-m", "nothing.at.all"),
    "no such script": ("nothing.py",),
    "status": ("-c", "raise SystemExit(258)"),
    "message": ("-c", "import sys; print('out'); sys.exit('because')"),
    "error": ("-m", "failing"),
    "wrong syntax": ("-c", "1 +"),
    "killed": ("-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
    "interrupted": ("-m", "interrupted"),
    "thread and atexit": (
        "-c",
        "import atexit, threading, time; atexit.register(print, 'end'); print('main', end=' ');"
        "threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()",
    ),
    "warning": ("-W", "error", "-m", "warning"),
    "warnings by a variable": ("-c", "import sys, warnings; print(sys.warnoptions); warnings.warn('late')"),
    "binary": ("-c", "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1]); print('ü')"),
    "a fork": ("-c", "import os; child = os.fork(); child and os.waitpid(child, 0); print(bool(child))"),
    "unbuffered": ("-u", "-c", "import os, sys; print(1); sys.stdout.buffer.write(b'2'); os._exit(3)"),
    "another option": ("-I", "-c", "import sys; print(sys.flags.isolated)"),
    "standard input": (),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "module.py": ONE,
        "failing.py": "def fail():\n    1 / 0\nfail()\n",
        "interrupted.py": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n",
        "warning.py": "import warnings\nwarnings.warn('old', DeprecationWarning)\n",
        "package/__init__.py": "",
        "folder/script.py": f"{ONE}\nprint(__file__, __name__)\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_prints_and_ends_as_it_does_in_a_real_python(name: str, folder: Path) -> None:
    told = [
        subprocess.run(
            [program, *PROGRAMS[name]],
            cwd=folder,
            env={"LANG": "C.UTF-8", "PYTHONPATH": "/a:/b", "PYTHONWARNINGS": "ignore::UserWarning"},
            input="print('typed')",
            capture_output=True,
            text=True,
            timeout=30,
        )
        for program in (sys.executable, python())
    ]
    real, forked = ((done.returncode, done.stdout, done.stderr) for done in told)
    assert forked == real


def test_a_program_has_its_folder_and_its_variables_alone(tmp_path: Path) -> None:
    code, variables = "import os, sys; print(os.getcwd(), dict(os.environ), sys.executable)", {"LANG": "C.UTF-8"}
    done = subprocess.run([python(), "-c", code], cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.stdout == f"{tmp_path} {variables} {sys.executable}\n"


def test_what_a_program_leaves_open_warns_at_its_end(folder: Path) -> None:
    command = [python(), "-W", "always", "-c", "kept = open('module.py')"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert "ResourceWarning: unclosed file" in done.stderr


def test_everything_is_imported_and_nothing_of_these_tests() -> None:
    code = "import sys; print('fastapi_sqlalchemy' in sys.modules, 'tests' in sys.modules)"
    assert subprocess.run([python(), "-c", code], capture_output=True, text=True).stdout == "True False\n"


def test_another_program_is_the_one_of_the_environment() -> None:
    done = subprocess.run([programs() / "pytest", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"pytest {pytest.__version__}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_program(number: int) -> None:
    code = "import signal, sys, time; print(signal.signal(int(sys.argv[1]), lambda *_: sys.exit(7)), flush=True)"
    with subprocess.Popen([python(), "-c", f"{code}; time.sleep(30)", str(number)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(20) == 7


def test_a_program_that_is_killed_takes_what_it_forked_along() -> None:
    code = "import os, time; os.fork(); print(os.getpid(), flush=True); time.sleep(30)"
    with subprocess.Popen([python(), "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert len({process.stdout.readline() for _ in range(2)}) == 2
        process.kill()
        assert process.stdout.read() == ""  # both have let go of it


def test_at_its_end_a_nursery_leaves_no_process_and_no_file() -> None:
    nursery = Nursery()
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(30)"
    with subprocess.Popen([nursery.folder / "python", "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        nursery.close()
        assert process.wait(20) == -signal.SIGKILL
    assert not lives(pid)
    assert not nursery.folder.exists()
