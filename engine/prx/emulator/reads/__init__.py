"""Readers of requests, one file for each wire format: they refuse every unknown or malformed key, and give an Asked."""
