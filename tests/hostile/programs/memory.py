"""Memory: of the process, and of what counts as memory elsewhere."""

from tests.hostile.model import CUT, ENDS, RAISED, Program

KIND = "memory"
FULL = RAISED | CUT
"""A MemoryError, the kernel's kill, or the clock, whichever comes first."""

PROGRAMS = (
    Program("a list that grows", KIND, "x = []\nwhile True: x.append(bytes(1 << 20))", FULL, light=False),
    Program("a text of 100 GB", KIND, "'a' * 10**11", RAISED),
    Program("a bytearray of 1 TB", KIND, "bytearray(10**12)", RAISED),
    Program("a dict that grows", KIND, "d = {}\ni = 0\nwhile True:\n    d[i] = {i}\n    i += 1", FULL, light=False),
    Program("the width of an f-string", KIND, "f'{1:{10**11}}'", RAISED),
    Program("the width of a format", KIND, "'%1000000000000d' % 1", RAISED),
    Program("join of many", KIND, "','.join(['a' * 10**6] * 10**6)", FULL),
    Program("replace that amplifies", KIND, "s = 'a' * 10**6\nwhile True: s = s.replace('a', 'a' * 1000)", FULL),
    Program("a numpy array of 8 TB", KIND, "import numpy\nnumpy.ones(10**12)", RAISED),
    Program("anonymous maps", KIND, "import mmap\nkept = []\nwhile True:\n    m = mmap.mmap(-1, 1 << 26)\n    m.write(b'x' * (1 << 26))\n    kept.append(m)", FULL, light=False),
    Program("a memory file", KIND, "import os\nfd = os.memfd_create('bomb')\nwhile True: os.write(fd, b'x' * (1 << 24))", RAISED),
    Program("shared maps, let go of", KIND, "import mmap\nkept = []\nwhile True:\n    m = mmap.mmap(-1, 1 << 24)\n    m.write(b'x' * (1 << 24))\n    m.madvise(mmap.MADV_DONTNEED)\n    kept.append(m)", FULL, light=False),
    Program("filling /dev/shm", KIND, "i = 0\nwhile True:\n    i += 1\n    with open(f'/dev/shm/bomb{i}', 'wb') as f:\n        f.write(b'x' * (1 << 24))", FULL, light=False),
    Program("the memory limit, raised", KIND, "import resource\nattempt('limit raised', resource.setrlimit, resource.RLIMIT_DATA, (-1, -1)) if resource.getrlimit(resource.RLIMIT_DATA)[1] != -1 and __import__('os').getuid() else None\nx = bytearray(1 << 26)", ENDS),
)  # fmt: skip
