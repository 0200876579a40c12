"""Corpora that don't lie on this machine."""

from tests.fma_server import published, site
from tests.s3_server import s3, s3_server

__all__ = ["published", "s3", "s3_server", "site"]
