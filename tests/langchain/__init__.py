"""Tests of langchain_valkey_semcache: what the framework's users see, through the framework."""
