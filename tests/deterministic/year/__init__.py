"""A year of venue outages, in virtual time: every kind of trigger beside a small model that says when a trip is due.

    python -m tests.deterministic.year --years 1 --seed 1

`world` is the machine and the venues, which go down, sleep, restart and have their clocks set. `model` holds what is
common to the models; `links`, `beats`, `flags`, `times`, `money`, `floors`
and `orders` each play one trigger's input and judge
it. Counted are trips that no model allows, trips that a model demands and that do not come, and re-arms that are
refused although the cause is gone. All three must be 0.
"""
