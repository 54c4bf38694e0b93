"""What is right and wrong with a server and a cache on it: `semcache doctor`, for programs.

Rule of this folder: it looks and tells. Nothing is written on a server or repaired, no password is
repeated, and what may not be asked is said so instead of guessed.
"""

from valkey_semcache.diagnosis.findings import Check, Diagnosis, Verdict
from valkey_semcache.diagnosis.round import diagnose

__all__ = ["Check", "Diagnosis", "Verdict", "diagnose"]
