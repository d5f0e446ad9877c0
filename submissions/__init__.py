"""One file per method; see _template.py, and local_eval/methods/contract.py for the contract."""
