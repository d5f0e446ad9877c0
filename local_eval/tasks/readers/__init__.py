"""From files to tensors: image folders, CSV tables, CIFAR's files, the competition's faces.

In: paths. Out: pixels, labels and persons, or an error that names the file and the row.
"""
