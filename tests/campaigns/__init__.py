"""Campaigns against the account: real operators, killed for real, and an emulator whose ledger is the truth.

python -m tests.campaigns crashes | faults | gateway | planted             `make campaign` runs all four
python -m tests.campaigns crashes "scale: create 3 withheld"               one plan alone
python -m tests.campaigns faults "kill-trim: 504-committed sustained"      one cell alone

plans.py     what a plan is, and how it is written in one line
pace.py      time, twenty times as fast, for processes that do not know it
tap.py       the operator's requests by name: counted, written down, and the place to die at
lives.py     operator and emulator as processes, forked from one that has imported everything
keeping.py   keeps them: an operator that ends is started again
apiserver.py the API server in memory (`kube/fake.py`) on a port
world.py     one plan's API server, emulator and operator
verdict.py   what the ledger says of it
stories.py, crashes.py, play.py    what is done to a pool, where operators die in it, and how that is played
faults.py, matrix.py               call sites, what can happen at each, and how that is played
gateway_faults.py, gateway_load.py the same for a gateway under load
planted.py                         operators with a bug, and where each is seen
"""
