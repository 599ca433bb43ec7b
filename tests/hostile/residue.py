"""What one stateless run leaves for the next one of the same principal, by channel: campaign C7.

Each channel has a program that plants and one that looks, printing `VISIBLE` when it sees what was planted. Executors
are never shared between principals, so this is about runs of one principal alone. Two situations: nothing else runs
(the scratch directories are swept between the two), and another run goes on all the time (they are not).
"""

import asyncio
from dataclasses import dataclass

from tests.hostile.client import Holder

SEEN = "VISIBLE"
_SEE = """
def see(found):
    if found: print('VISI' + 'BLE')

def runs(word):
    import os
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            if word in open(f'/proc/{pid}/cmdline').read(): return True
        except OSError: pass  # hidden, or gone since it was listed
    return False

"""
_HOLD = "import time\nprint('holding', flush=True)\ntime.sleep(30)"


@dataclass(frozen=True)
class Channel:
    """One way in which a run could reach the next."""

    name: str
    plant: str
    look: str
    beside: bool = False
    """Expected to be seen while another run goes on; documented in docs/hostile-programs.md."""
    why: str = ""
    refused: bool = False
    """A run cannot even plant it: the kernel or the file system says no."""


_TREE = "import os\nfor path in ({paths}):\n    try: open(os.path.join(path, 'residue-mark'), 'w').write('x')\n    except OSError: pass\n"
_LOOK = "import os\nsee(any(os.path.exists(os.path.join(path, 'residue-mark')) for path in ({paths})))"
_SWEPT = "a scratch directory that runs of one executor share; swept whenever none of them runs"


def _files(name: str, paths: str, **expected: object) -> Channel:
    return Channel(name, _TREE.format(paths=paths), _LOOK.format(paths=paths), **expected)  # type: ignore[arg-type]


CHANNELS = (
    _files("/tmp", "'$SCRATCH',", beside=True, why=_SWEPT),
    _files("working directory", "'.', os.getcwd()"),
    _files("HOME", "os.environ['HOME'], os.path.expanduser('~')"),
    _files("TMPDIR", "__import__('tempfile').gettempdir(),"),
    _files("/dev/shm", "'$SHM',", beside=True, why=_SWEPT),
    Channel("System V shared memory", "import ctypes\nctypes.CDLL(None).shmget(4242, 4096, 0o1666)", "import ctypes\nsee(ctypes.CDLL(None).shmget(4242, 0, 0) >= 0)", refused=True),
    Channel("System V semaphores", "import ctypes\nctypes.CDLL(None).semget(4242, 1, 0o1666)", "import ctypes\nsee(ctypes.CDLL(None).semget(4242, 0, 0) >= 0)", refused=True),
    Channel("System V messages", "import ctypes\nctypes.CDLL(None).msgget(4242, 0o1666)", "import ctypes\nsee(ctypes.CDLL(None).msgget(4242, 0) >= 0)", refused=True),
    Channel("POSIX message queue", "import ctypes\nctypes.CDLL(None).mq_open(b'/residue', 0o102, 0o666, None)", "import ctypes\nsee(ctypes.CDLL(None).mq_open(b'/residue', 0) >= 0)", refused=True),
    Channel("abstract socket", "import os, socket, time\nif os.fork() == 0:\n    os.setsid()\n    s = socket.socket(socket.AF_UNIX)\n    s.bind('\\0residue')\n    s.listen()\n    time.sleep(60)\ntime.sleep(0.1)", "import socket\ntry:\n    socket.socket(socket.AF_UNIX).connect('\\0residue')\n    see(True)\nexcept OSError: pass"),
    Channel("TCP listener", "import os, socket, time\nif os.fork() == 0:\n    os.setsid()\n    s = socket.create_server(('127.0.0.1', 4242))\n    time.sleep(60)\ntime.sleep(0.1)", "import socket\ntry:\n    socket.create_connection(('127.0.0.1', 4242), 1)\n    see(True)\nexcept OSError: pass", refused=True),
    Channel("background process", "import subprocess, time\nsubprocess.Popen(['sleep', '4242'])\ntime.sleep(0.2)  # it has no arguments yet when Popen returns", "see(runs('4242'))"),
    Channel("daemon", "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: os.execvp('sleep', ['sleep', '4243'])\n    os._exit(0)\n__import__('time').sleep(0.2)", "see(runs('4243'))"),
    Channel("thread", "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), name='residue', daemon=True).start()", "import os, threading\nsee('residue' in [t.name for t in threading.enumerate()] or threading.active_count() > 1)"),
    Channel("exit function", "import atexit\nfor _ in range(500): atexit.register(int)", "import atexit\nsee(atexit._ncallbacks() >= 500)"),
    Channel("environment", "import os\nos.environ['RESIDUE'] = 'x'\nos.putenv('RESIDUE2', 'x')", "import os\nsee('RESIDUE' in os.environ or b'RESIDUE2' in __import__('subprocess').run(['env'], capture_output=True).stdout)"),
    Channel("umask", "import os\nos.umask(0)", "import os\nsee(os.umask(0o22) == 0)"),
    Channel("resource limits", "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (42, 42))", "import resource\nsee(resource.getrlimit(resource.RLIMIT_NOFILE)[1] == 42)"),
    Channel("signal mask and handlers", "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\nsignal.signal(signal.SIGUSR2, signal.SIG_IGN)", "import signal\nsee(signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, []) or signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN)"),
    Channel("patched modules", "import json, sys, builtins\njson.loads = lambda *a: 'residue'\nsys.modules['residue'] = json\nbuiltins.residue = 1", "import json, sys, builtins\nsee(json.loads('1') == 'residue' or 'residue' in sys.modules or hasattr(builtins, 'residue'))"),
    Channel("site-packages", "import site, sys\nfor path in [*site.getsitepackages(), *sys.path]:\n    try: open(path + '/residue.pth', 'w').write('import sys; sys.residue = 1')\n    except OSError: pass", "import os, site, subprocess, sys\nsee(subprocess.run([sys.executable, '-c', 'import sys; sys.exit(hasattr(sys, \"residue\"))']).returncode == 1 or any(os.path.exists(p + '/residue.pth') for p in sys.path))", refused=True),
    Channel("bytecode caches", "import colorsys\ntry: open(colorsys.__cached__, 'wb').write(b'residue')\nexcept (OSError, TypeError): pass", "import colorsys, os\nsee(os.path.exists(colorsys.__cached__) and b'residue' in open(colorsys.__cached__, 'rb').read())", refused=True),
    Channel("import caches", "import sys\nsys.path.insert(0, '/residue')\nsys.path_importer_cache['/residue'] = None\nsys.meta_path.append('residue')", "import sys\nsee('/residue' in sys.path or '/residue' in sys.path_importer_cache or 'residue' in sys.meta_path)"),
    Channel("random numbers", "import random, numpy\nrandom.seed(42)\nnumpy.random.seed(42)", "import random, numpy\nfresh = random.Random(42).random(), numpy.random.RandomState(42).random()\nsee(random.random() == fresh[0] or numpy.random.random() == fresh[1])"),
    Channel("locale and time zone", "import locale, os, time\nlocale.setlocale(locale.LC_ALL, 'C')\nos.environ['TZ'] = 'Asia/Tokyo'\ntime.tzset()", "import time\nsee(time.tzname[0] == 'JST')"),
    Channel("open descriptors", "import os\nfd = os.open('residue-mark', os.O_CREAT | os.O_RDWR)\nos.set_inheritable(fd, True)\nos.dup2(fd, 99)", "import os\nfound = []\nfor fd in range(4, 128):\n    try: found.append(os.readlink(f'/proc/self/fd/{fd}'))\n    except OSError: pass\nsee(any('residue' in name for name in found))"),
    Channel("kernel keyring", "import ctypes\nctypes.CDLL(None).syscall(248, b'user', b'residue', b'x', 1, -4)", "import ctypes\nsee(ctypes.CDLL(None).syscall(249, b'user', b'residue', None, 0) >= 0)", refused=True),
    _files("cache of pip and of fonts", "os.path.expanduser('~/.cache'), os.environ.get('MPLCONFIGDIR', '/nonexistent')"),
    Channel("a file of the image, in the page cache", "import mmap, json\ntry:\n    with open(json.__file__, 'r+b') as f: mmap.mmap(f.fileno(), 0)[0:1] = b'X'\nexcept OSError: pass", "import json\nsee(open(json.__file__, 'rb').read(1) == b'X')", refused=True),
)  # fmt: skip


async def visible(holder: Holder, places: dict[str, str], *, beside: bool) -> list[str]:
    """Return the channels by which a run sees something of the one before it."""
    return [channel.name for channel in CHANNELS if await _is_seen(holder, channel, places, beside=beside)]


async def visible_to_itself(holder: Holder, places: dict[str, str]) -> list[str]:
    """Return the channels by which a run sees what it planted itself: the others are refused, or the look is wrong."""
    found = []
    for channel in CHANNELS:
        code = _SEE + "\n".join(_placed(part, places) for part in (channel.plant, channel.look))
        if SEEN in (await holder.run(code, 5)).printed():
            found.append(channel.name)
    return found


async def _is_seen(holder: Holder, channel: Channel, places: dict[str, str], *, beside: bool) -> bool:
    plant, look = (_placed(code, places) for code in (channel.plant, channel.look))
    other = asyncio.create_task(holder.run(_HOLD, 30)) if beside else None
    if other is not None:
        await asyncio.sleep(0.1)
    try:
        planted = await holder.run(plant, 5)
        assert planted.status in ("Succeeded", "Failed"), (channel.name, planted.end)
        if not beside:
            await asyncio.sleep(0.15)  # nobody runs: the sweep comes
        looked = await holder.run(_SEE + look, 5)
        assert looked.status == "Succeeded", (channel.name, looked.end, looked.printed()[-500:])
        return SEEN in looked.printed()
    finally:
        if other is not None:
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)


def _placed(code: str, places: dict[str, str]) -> str:
    for name, path in places.items():
        code = code.replace(f"${name}", path)
    return code
