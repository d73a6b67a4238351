"""Codecs: what may stand between pictures and what a model sees."""

from limner.codecs.identity import Identity

__all__ = ["Identity"]
