"""A network as a description, and all that follows from it.

layers          each owns its shape, module and forward pass
layout          where tensors lie in the weight vector
architecture    a list of layers, or a class of PyTorch's
modules         parts that PyTorch does not have
initialization, variational, pruning, resnet
copies          when a network is a copy of another one
"""
