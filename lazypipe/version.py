"""The version of lazypipe, which every module may import."""

__all__ = ["VERSION"]

VERSION = "0.1.0"
