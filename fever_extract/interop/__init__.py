"""The network in other libraries' terms: thin adapters, each for whoever has that library.

Training and extraction of our own need none of them.
"""
