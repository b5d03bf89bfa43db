"""Says what is missing when this python3 cannot set the project up."""

import importlib.util
import sys

if sys.version_info < (3, 11):
    sys.exit("Python 3.11 or newer is needed. Install it, then: make PYTHON=python3.12 <target>")
if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
    sys.exit("This Python lacks the venv module. On Debian: apt-get install python3-venv")
