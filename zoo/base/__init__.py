"""What everything else uses.

errors, text, files, names, plugins, console; lazy: torch, imported when it is first used
"""
