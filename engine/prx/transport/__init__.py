"""The transports: all I/O on the network that prx does as a client."""
