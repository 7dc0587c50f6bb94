"""Uploaded archives: one set of rules, kept by the API when one arrives and by the worker that unpacks it.

Nothing of an archive is believed: not its counts, its sizes, its names, nor that its entries lie apart.
"""

from models.archives.plan import Member, Plan, expect_images, opened

__all__ = ["Member", "Plan", "expect_images", "opened"]
