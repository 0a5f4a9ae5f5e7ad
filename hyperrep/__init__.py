"""What is learnt of the weights of a zoo, and new networks drawn from that.

config, checks     `autoencoder=`, `sampler=`, `population.…`, `downstream=`
tokens, symmetry, alignment, augmentation, states     weights as a model of weights sees them
models             representation models: the autoencoder, its losses and training
training           `task=hyperrep`
samplers           one file each
sampling           `task=sample`
features           embeddings as features
downstream         `task=downstream`: comparisons
"""
