"""Stores that Glance's own library deletes from: cinder and vmware.

``glance_store`` reads its options, makes its client and sends the delete.  What it leaves
open is done here: which URL may be deleted at all, patience that ends, what an answer means,
and whether a volume that Cinder has accepted to delete is gone.

library    what all of its stores have in common   cinder  volumes of Glance's own project
meanings   what a library's exception means        vmware  files in a vCenter's datastores
"""

from scrubber.stores.glance_store.cinder import CinderDriver
from scrubber.stores.glance_store.vmware import VmwareDriver

__all__ = ["CinderDriver", "VmwareDriver"]
