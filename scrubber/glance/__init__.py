"""Glance's own API: who we are to it (section [glance]), and what it says."""
