"""From files to tensors: images, tables, labels, CIFAR's files, the competition's faces.

In: paths. Out: pixels, labels and persons, or an error that names the file and the row.
"""
