"""Campaigns against the account: real operators, killed for real, and an emulator whose ledger is the truth.

python -m tests.campaigns crashes            every plan; `make campaign` runs this and the two that follow
python -m tests.campaigns faults
python -m tests.campaigns planted
python -m tests.campaigns crashes "scale: create 3 withheld, look 1 read"       one plan alone

plans.py     what a plan is, and how it is written in one line
pace.py      time, twenty times as fast, for processes that do not know it
tap.py       the operator's requests by name: counted, written down, and the place to die at
lives.py     operator and emulator as processes, forked from one that has imported everything
apiserver.py the API server in memory (`kube/fake.py`) on a port
world.py     one plan's API server, emulator and operator
stories.py   what is done to the pool
verdict.py   what the ledger says of it
"""
