"""Has a Python that has imported everything run the program that this file is named after, or its arguments."""

import _socket
import marshal
import os
import signal
import sys

folder, name = os.path.split(sys.argv[0])
program = [] if name.startswith("python") else [os.path.join(os.path.dirname(sys.executable), name)]
connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
connection.connect(os.path.join(folder, "socket"))
connection.sendmsg(
    [marshal.dumps(([*program, *sys.argv[1:]], os.getcwd(), dict(os.environ)))],
    [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, b"".join(number.to_bytes(4, sys.byteorder) for number in range(3)))],
)
pid = int(connection.recv(20))
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(pid, number))
status = int(connection.recv(20))
if status < 0:
    if status != -signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
