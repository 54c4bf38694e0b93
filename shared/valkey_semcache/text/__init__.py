"""What is read from a question's words before anything is looked up.

Rule of this folder: text in, plain values out; no server, no embedding, no option of a cache.
"""
