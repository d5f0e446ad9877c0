"""How fast the kit is here, beside the plain way.

In: a task and a device. Out: rates and ratios.
"""
