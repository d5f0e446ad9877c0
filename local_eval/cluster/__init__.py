"""Oracles and runs on several machines, through Ray, which is imported only when it is asked for.

`ray_engine` is this machine's side. On the others `bootstrap`, which travels by itself, unpacks the kit; then `node`
works.

In: the jobs that isolation/pool.py takes, whose argument says what it needs to travel. Out: the same results.
"""
