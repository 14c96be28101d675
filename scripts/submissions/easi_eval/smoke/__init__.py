"""The smoke run: tiny data, a tiny model and a local hub, to test a whole run offline."""
