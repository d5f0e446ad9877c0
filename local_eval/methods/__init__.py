"""What a submission is: its source, constants, notebook, and the contract that it keeps.

In: a submission's file, or a function. Out: `unlearning`, ready to be run, or a sentence that says what is wrong.
"""
