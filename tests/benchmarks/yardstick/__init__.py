"""The yardstick: a neutral black-box measurement of relays, sluicegate among them; see `__main__` for how to run it.

`harness/` holds a provider (`upstream.c`), clients (`load.c`), a byte relay (`rawproxy.c`) and the same small service
on other stacks (`peers/`). Every target is a process that listens on a port of its own; every scenario runs over all
targets in turn, round by round, in an order that rotates, so that noise hits all of them alike.
"""
