"""limner: train, sample, judge and use image generators of every family."""
