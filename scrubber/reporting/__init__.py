"""What an operator reads: ``report`` counts a run, ``text`` prints it for people."""
