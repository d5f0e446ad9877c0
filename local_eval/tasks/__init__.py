"""What is graded: a network, four splits of images and a training recipe.

In: a name such as `digits`, or a file of your own with its data. Out: a checked `Task`, and the means to measure a
network on it. data/ turns image folders, CSV and CIFAR files and faces into tensors.
"""
