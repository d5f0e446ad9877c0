"""What two or more submissions share: losses, re-initialisation, schedules, loader helpers, roles of layers.

One function per idea, with its formula, shapes and source. The notebook export copies out exactly the functions that a
submission uses, so a function here may only use torch, torchvision, numpy, the standard library and other functions
of this package.
"""
