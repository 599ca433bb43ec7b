"""Programs that are also run as commands of envd: some of every class, and those that aim at the agent that starts them."""

from tests.hostile.model import ENDS, Program

KIND = "commands"

ALSO_AS_COMMANDS = frozenset({
    "while True", "64 busy threads", "a sleep of 30 years",
    "a list that grows", "a bytearray of 1 TB", "a memory file", "filling /dev/shm",
    "fork bomb", "small fork bomb", "double fork with a session of its own", "kill everything", "tracing the parent",
    "priority of others and a better one", "limits of others", "ignoring every signal", "an orphan that holds the output",
    "stdout flood", "a million tiny files", "filling the disk",
    "environments of others", "memory of others", "descriptors of others", "mount", "a service account's token",
    "the server's and the platform's directories",
    "metadata service, as an address", "API server", "gateway, own server, control port", "a neighbour",
    "files and commands, of the own server and of a neighbour", "names that carry data out", "UDP flood",
    "user namespace", "io_uring", "memory of other processes", "a daemon that comes back",
})  # fmt: skip
"""Left out is what may reach the agent, which shares its signals with commands: the programs below are about that."""

AT_THE_AGENT = (
    Program("killing the agent", KIND, "import os, time\nos.kill(os.getppid(), 9)\ntime.sleep(60)", ENDS),
    Program("stopping the agent", KIND, "import os, time\nos.kill(os.getppid(), 19)\ntime.sleep(60)", ENDS),
    Program("stopping everything, again and again", KIND, "import os\nwhile True: os.kill(-1, 19)", ENDS),
    Program("a fork bomb that leaves its session", KIND, "import os\nwhile True:\n    try:\n        if os.fork() == 0: os.setsid()\n    except OSError: pass", ENDS, light=False),
    Program("killing the keeper", KIND, "import os\nkeeper = open(f'/proc/{os.getppid()}/stat').read().rpartition(')')[2].split()[1]\nattempt('keeper killed', os.kill, int(keeper), 9)", ENDS),
)  # fmt: skip
