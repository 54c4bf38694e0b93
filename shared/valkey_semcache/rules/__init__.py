"""What an app says about its answers: what is cached, how long, for whom.

Rule of this folder: options in, decisions out; nothing here asks a server.
"""
