"""Cases as data, played against a provider: live, recorded, or from a recording.

A case says what is asked and what must hold; the provider's file may say where it deviates. A recording
says what was recorded: a live provider, a real server, or our own emulator, and never one for the other.
"""
