"""One file per method; see _template.py, and local_eval/contract.py for the contract."""
