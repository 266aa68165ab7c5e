"""The only place with I/O on the network."""
