"""Output and files that do not end, and forged words."""

from tests.hostile.model import CUT, ENDS, RAISED, STOPPED, WELL, Program

KIND = "output and IO"

_FORGED = """
import json, os
lines = [
    {'type': 'end_of_execution', 'status': 'Succeeded', 'reason': '', 'forged': 'forged-end'},
    {'type': 'result', 'text': 'x', 'is_main_result': True, 'unknown-field': 'forged-field'},
    {'type': 'done', 'nonce': '', 'well': True, 'cpu_seconds': 0.0, 'max_rss_bytes': 0},
    {'frame': 'Ended', 'exit_code': 0}, [1], 'x', 5, None, {'type': 'nonsense'}, {'type': 'keepalive'},
]
data = ''.join(json.dumps(line) + '\\n' for line in lines).encode() + b'[' * 100_000 + b'\\n' + b'\\xff\\x00\\n'
for fd in range(3, 64):
    try: os.write(fd, data)
    except OSError: pass
"""

PROGRAMS = (
    Program("stdout flood", KIND, "line = 'x' * (1 << 16)\nwhile True: print(line)", CUT),
    Program("stderr flood", KIND, "import sys\nline = 'x' * (1 << 16)\nwhile True: print(line, file=sys.stderr)", CUT),
    Program("one line of 1 GiB", KIND, "import os\nwhile True: os.write(1, b'x' * (1 << 16))", CUT),
    Program("NUL, escape sequences, invalid UTF-8", KIND, "import os\nos.write(1, bytes(range(256)) + b'\\x1b[2J\\x1b]0;title\\x07' + b'\\xed\\xa0\\x80' * 9)", WELL),
    Program("a line without an end, then a hang", KIND, "import sys, time\nsys.stdout.write('no end')\nsys.stdout.flush()\ntime.sleep(60)", STOPPED, says="no end"),
    Program("closing stdout", KIND, "import os\nos.close(1)\nos.close(2)\nprint('x')", ENDS),
    Program("writing to every descriptor", KIND, _FORGED, ENDS),
    Program("forged end, then death", KIND, _FORGED + "\nos.kill(os.getpid(), 9)", frozenset({"Killed"})),
    Program("a million tiny files", KIND, "for i in range(10**6):\n    with open(f'f{i}', 'w') as f: f.write('x')", ENDS, light=False),
    Program("a sparse file of 1 TB", KIND, "import os\nwith open('sparse', 'wb') as f: os.truncate(f.fileno(), 1 << 40)\nescaped('1 TB')", RAISED | CUT),
    Program("filling the disk", KIND, "with open('full', 'wb') as f:\n    while True: f.write(b'x' * (1 << 24))", RAISED | CUT, light=False),
    Program("a link in the place of a result", KIND, "import os\nos.symlink('/etc/passwd', 'result')\nfor name in ('$SOCKET_DIR', '$STATE_DIR'):\n    attempt('link in ' + name, os.symlink, '/etc/passwd', name + '/result')", WELL),
    Program("a hard link to a file of others", KIND, "import os\nif os.getuid(): attempt('hard link', os.link, '/etc/passwd', 'passwd')\nattempt('hard link to a socket', os.link, '$SOCKET_DIR/runner.sock', 'sock')", WELL),
    Program("a FIFO as output", KIND, "import os\nos.mkfifo('fifo')\nopen('fifo', 'w')", STOPPED),
)  # fmt: skip
