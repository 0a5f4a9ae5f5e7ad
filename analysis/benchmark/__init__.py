"""What weights tell of their models.

probes        linear ones and trees
prediction    the tables
"""
