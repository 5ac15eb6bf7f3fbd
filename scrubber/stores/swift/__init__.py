"""The swift store: images are objects, or large objects in segments, in containers of an account.

references   which accounts the section names     addresses  what a location's URL means
session      logging in, requests                 web        connections, what answers mean
large        segments first, then manifest        deletion   batches, plain and bulk
driver       the store itself
"""

from scrubber.stores.swift.driver import SwiftDriver

__all__ = ["SwiftDriver"]
