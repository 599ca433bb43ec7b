"""Processes and signals: outliving a run, and reaching those of others."""

from tests.hostile.model import ENDS, STOPPED, WELL, Program

KIND = "processes and signals"

_OTHERS = """
import os, signal
mine = {os.getpid()}
def others():
    for name in os.listdir('/proc'):
        if name.isdigit() and int(name) not in mine:
            yield int(name)
"""

PROGRAMS = (
    Program("fork bomb", KIND, "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", ENDS, light=False),
    Program("small fork bomb", KIND, "import os, time\nfor _ in range(40):\n    if os.fork() == 0:\n        os.setsid()\n        while True:\n            if os.fork(): os._exit(0)\n            time.sleep(0.002)\ntime.sleep(60)", ENDS),
    Program("double fork with a session of its own", KIND, "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(60)\n    os._exit(0)\nos.wait()", WELL),
    Program("vfork and exec", KIND, "import subprocess\nsubprocess.Popen(['sleep', '60'], start_new_session=True)\nNone", WELL),
    Program("10,000 threads", KIND, "import threading, time\nkept = []\nfor _ in range(10_000):\n    t = threading.Thread(target=time.sleep, args=(60,), daemon=True)\n    try: t.start()\n    except RuntimeError: break\n    kept.append(t)\nwhile True: time.sleep(1)", ENDS),
    Program("zombies", KIND, "import os, time\nfor _ in range(30):\n    if os.fork() == 0: os._exit(0)\ntime.sleep(60)", STOPPED),
    Program("kill everything", KIND, "import os, signal\ntry: os.kill(-1, signal.SIGKILL)\nexcept PermissionError: pass\n'alive'", ENDS),
    Program("kill the parent", KIND, "import os, time\nattempt('parent killed', os.kill, os.getppid(), 9)\ntime.sleep(0.2)", WELL),
    Program("stop the parent", KIND, "import os, time\nattempt('parent stopped', os.kill, os.getppid(), 19)\ntime.sleep(60)", STOPPED),
    Program("signals to every other process", KIND, _OTHERS + "for pid in others():\n    attempt(f'signal to {pid}', os.kill, pid, signal.SIGCONT)", WELL),
    Program("stopping every other process", KIND, _OTHERS + "for pid in others():\n    attempt(f'stop of {pid}', os.kill, pid, signal.SIGSTOP)", WELL),
    Program("ignoring every signal", KIND, "import signal\nfor number in range(1, 65):\n    try: signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass", STOPPED),
    Program("tracing the parent", KIND, "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nif libc.ptrace(16, os.getppid(), 0, 0) == 0: escaped('attached')\nif libc.ptrace(0, 0, 0, 0) == 0: escaped('traceable')", WELL),
    Program("a storm of SIGCHLD", KIND, "import os, time\nend = time.monotonic() + 1\nwhile time.monotonic() < end:\n    if os.fork() == 0: os._exit(0)\n    os.wait()", ENDS),
    Program("no signal when the parent ends", KIND, "import ctypes, os, time\nctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\nif os.fork() == 0:\n    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\n    os.setsid()\n    time.sleep(60)", WELL),
    Program("priority of others and a better one", KIND, _OTHERS + "for pid in others():\n    attempt(f'nice of {pid}', os.setpriority, os.PRIO_PROCESS, pid, 19)\nif os.getuid(): attempt('nice -20', os.setpriority, os.PRIO_PROCESS, 0, -20)", WELL),
    Program("limits of others", KIND, _OTHERS + "import resource\nfor pid in others():\n    attempt(f'limits of {pid}', resource.prlimit, pid, resource.RLIMIT_NOFILE, (10, 10))", WELL),
    Program("an orphan that holds the output", KIND, "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\nprint('parent is done')", WELL, says="parent is done"),
    Program("becoming another program", KIND, "import os\nos.execvp('sh', ['sh', '-c', 'sleep 60'])", STOPPED),
)  # fmt: skip
