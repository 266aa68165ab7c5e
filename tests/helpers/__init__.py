"""What the tests share: inputs of any kind, what must hold of them, servers, recordings, and a driver without I/O."""
