"""Requests, one file for each shape: strict about what they hold, and put into the brain's words."""
