"""The emulator: a small HTTP server on loopback that speaks the faces of the dialects, for `prx demo` and for recordings.

It is not a language model, and says so. It streams, calls tools, tells the size of pictures, shows reasoning, and
refuses what its persona refuses; a model of it may be at one path alone.
"""
