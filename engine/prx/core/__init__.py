"""The decisions of a call, without any I/O: no socket, no clock, no environment, no chance.

It turns (spec, call) into requests and bytes into deltas, and asks a driver for the rest.
"""
