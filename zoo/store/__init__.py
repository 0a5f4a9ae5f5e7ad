"""A zoo on disk; docs/FORMAT.md.

zoo           reads weights, tables, modules
writer        begins, extends and finishes it
block         models that are trained and stored together
stored, files, tables, selection, entries, schema
model_dataset, datamodule     for PyTorch and Lightning
card          README.md
manifest      hashes of folders that are no zoo
"""
