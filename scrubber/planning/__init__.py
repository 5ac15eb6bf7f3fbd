"""WHAT may be deleted now: pure decisions over frozen values.

No module here does I/O, sleeps, reads a clock or rolls a die; whoever asks passes those in.
"""
