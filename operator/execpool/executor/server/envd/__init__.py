"""E2B's envd on a port of its own: files and commands of the claim, over plain HTTP and Connect.

app ── access ──► files ──────► agent ══ socket ══► runner/agent
              ├─► filesystem ──►
              └─► processes ───►   └─ pipes and terminals are made here, and one end of each handed over
"""
