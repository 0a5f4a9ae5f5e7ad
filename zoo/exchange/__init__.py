"""Zoos of others, and ours for others.

imports         `task=import`
export          `task=export`
raw             the layout of the published zoos; raw_states, raw_writing
zenodo          where these are
"""
