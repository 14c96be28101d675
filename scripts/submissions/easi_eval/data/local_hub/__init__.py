"""A small hub on loopback that serves the rehearsal and the tests."""
