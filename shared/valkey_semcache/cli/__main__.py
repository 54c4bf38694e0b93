"""`python -m valkey_semcache.cli` is `semcache`."""

from valkey_semcache.cli import main

main()
