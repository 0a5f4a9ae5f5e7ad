"""The configuration, typed; and everything that can be wrong with it, told at once.

sections, spec    dataclasses: kinds, limits, meanings
typed             from plain values to dataclasses
reading           from what Hydra composed to a `Config`
combinations      what values forbid together
command_line      the words of a command line, looked at before Hydra acts on them
"""
