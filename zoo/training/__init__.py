"""From a configuration to a finished zoo.

train         `task=zoo`, block by block
module        a block as a Lightning module
spec          the models, one row each
start         models that begin as those of another zoo
sparsify      `task=sparsify`
plan          `task=plan`
description, opening, provenance, progress, summary, loggers, fitting, accuracy_check
"""
