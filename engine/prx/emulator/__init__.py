"""A small server that speaks the real wire on loopback, for the first run and for recordings.

It is no language model and says so. It streams, calls tools, looks at pictures (their size), shows reasoning,
refuses what it is told to refuse, and answers 404 where only the Responses API is there.
"""
