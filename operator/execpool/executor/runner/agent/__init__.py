"""The agent: files and processes of a claim, for a server that does not see this container's file system.

    zygote -> (the hardening of a run) -> agent.serve(descriptor): one per claim, started by its first such call
                                            ├── command, in a session of its own
                                            └── command ...

It has exactly the rights of user code: everything that it opens or starts could have been opened or started by a run.
That is why paths need no fence of their own here, and why the server trusts nothing that it says. One thread, one select
loop; long work is done in small turns, contents go through pipes, and it ends, with all below it, when the socket closes.
"""

from execpool.executor.runner.agent.service import serve

__all__ = ["serve"]
