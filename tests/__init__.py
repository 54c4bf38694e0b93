"""Tests of valkey-semcache.

Rule of this folder: real servers, real clients, what a user sees. `servers.py` has the servers
that every test of the cache runs against, `embedders.py` the embedding models where meaning does
not matter; a file tests one promise of the package, and its name says which.
"""
