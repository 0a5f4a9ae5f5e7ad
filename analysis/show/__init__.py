"""What is shown.

results         comparisons as tables
zoo_tables      the tables of an analysed zoo
figures, maps
card, report, side_by_side, dashboard
"""
