"""The version of this service."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("perdure")
except PackageNotFoundError:  # run from a bare tree, without its metadata
    VERSION = "0+unknown"
