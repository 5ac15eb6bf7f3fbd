"""The admin API: probes, metrics, and watching and steering one process over HTTP.

``control.py`` says what a process has to offer, ``application.py`` which request does what,
``authorisation.py`` who may ask for it, ``address.py`` and ``server.py`` where it is served.
"""
