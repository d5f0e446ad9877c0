"""Jobs on several machines, through Ray, which is imported by nothing but `driver` and only when it is asked for.

`driver` is this machine's side. Of the others, `bootstrap` travels by itself and unpacks the kit, then `node` works.

In: the jobs that engine/pool.py takes, whose argument says what it needs to travel. Out: the same results.
"""
