"""Measurements, never assertions: ``make bench`` prints what it measured.

Every contender does the same work on the same machine in one run; only ratios mean much.
"""
