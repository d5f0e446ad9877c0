"""The command line: `parser` says what can be asked, the others do it.

In: parsed options. Out: printed lines, files, an exit code.
"""
