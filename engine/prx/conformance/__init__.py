"""Conformance: cases, which are data, run against a provider: live, while recording, or from a recording.

A case has a call and conditions for its answer; the provider's file may name deviations. A recording
names its source: a live provider, a real server, or prx's emulator; none of them stands in for another.
"""
