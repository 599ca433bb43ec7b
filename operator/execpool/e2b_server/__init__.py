"""E2B's protocol as a server speaks it: what a request is for, what is told of a sandbox, lists, signatures, refusals.

Shared by those who serve it: the emulator of an account, and the gateway's door for programs that were written for E2B.
"""
