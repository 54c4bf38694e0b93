"""What an entry is in Valkey: its key, its envelope, its bytes.

Rule of this folder: bytes from a server are data; whatever cannot be read raises `UnreadableError`.
"""
