"""The decisions of a call, without any I/O: no socket, no clock, no environment, no random numbers.

It makes requests from (spec, call) and deltas from bytes, and yields to a driver whenever it needs I/O.
"""
