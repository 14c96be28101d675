"""What the user sees of a run: the live view, and plain lines where there is no terminal."""
