"""The sandbox's levels, by name. Imports nothing: the command line's help lists them."""

LEVELS = {  # the layers of each, in the order in which they are entered: no files before limits, filters last
    "full": ("limits", "files", "network", "processes"),
    "no-files": ("limits", "network", "processes"),
    "limits": ("limits",),
}
