"""Measures of a zoo, and statistics.

summary       the row of Table 2
agreement, cka, weights, pairs, maps
statistics    samples, and whether two differ
"""
