"""Image datasets.

config      `dataset=`: protocols, and what they yield
data        from the authors' files to the three splits
readers     one for each original format
download    files found on this machine, or downloaded; never trusted without their hash
"""
