"""What ``scrubber-manage check`` looks at before scrubber goes live.

``checklist.py`` is read from top to bottom; each subject is a module, ``command.py`` prints.
Nothing is written to Glance's database and nothing is deleted; what hangs is given up after
call_timeout.
"""
