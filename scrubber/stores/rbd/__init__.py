"""The rbd store: images are RBD images in a pool of a Ceph cluster, each with a snapshot.

addresses  what a location's URL means     cluster  the connection, its pools, Ceph's errors
driver     the store itself: what is deleted, and in which order
"""

from scrubber.stores.rbd.driver import RbdDriver

__all__ = ["RbdDriver"]
