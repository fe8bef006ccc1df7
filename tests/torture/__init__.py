"""Torture: connections of every kind, planned from a seed, run by a C program on both ends, checked byte by byte."""
