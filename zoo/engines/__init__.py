"""Engines train and evaluate a block of models together; they differ in speed, not in the science.

choice           `engine=`: which engines there are, which can train what, which is the fastest
engine           what an engine is
loop_engine      plain PyTorch, one model after another: the reference
torch_engine     many models in one batch of tensors, on any device
fused_engine     one compiled loop a model (CPU), of stages, kernels, variational_kernels, numerics, noise, simd, compilation
philox           random numbers by counters
evaluation       a matrix of weights as networks: what they do on images
"""
