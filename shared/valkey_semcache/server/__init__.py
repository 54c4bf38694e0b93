"""How Valkey is reached: by URL or environment, by the user's own client, or embedded.

Rule of this folder: connecting, and nothing of what is said over the connection. With
drive.py it is the only place that does I/O.
"""

from valkey_semcache.server.connect import Server

__all__ = ["Server"]
