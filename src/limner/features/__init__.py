"""Extractors: what the measures see of a picture."""

from limner.features.catalogue import EXTRACTORS, load_extractor
from limner.features.extractor import Extractor, Features, Images, classify, extract, scores

__all__ = ["EXTRACTORS", "Extractor", "Features", "Images", "classify", "extract", "load_extractor", "scores"]
