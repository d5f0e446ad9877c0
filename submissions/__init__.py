"""One file per method; see _template.py, and local_eval/runs/contract.py for the contract."""
