"""Representation models.

autoencoder    a transformer over neurons, with a bottleneck
losses         each on its own
module         its training, as a Lightning module
stored         it on disk
"""
