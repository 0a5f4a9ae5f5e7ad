"""What a zoo is like, what its weights tell, whether networks are new; and how that is shown.

config, features    `analysis=`
measures            agreement, CKA, distances, maps; statistics
benchmark           what weights tell of their models: features, probes, tables
audit               the novelty audit
show                tables, figures, cards, the report
zoo_analysis        `task=analysis`
"""
