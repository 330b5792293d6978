"""Rasterloom's benchmark: peers, limits and Rasterloom itself, side by side in one run.

``bash bench/run.sh short`` takes minutes and ``bash bench/run.sh full`` longer;
both bring their own PostgreSQL, make their sets, check every answer before its
time counts, and write a report, its numbers as JSON, and a plot.
"""
