"""Extractors: what the measures see of a picture."""

from .catalogue import EXTRACTORS, load_extractor
from .extractor import Extractor, Features, Images, classify, extract

__all__ = ["EXTRACTORS", "Extractor", "Features", "Images", "classify", "extract", "load_extractor"]
