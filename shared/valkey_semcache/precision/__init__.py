"""Whether a question that lies near may have the answer of another.

Rule of this folder: what is decided here can only refuse a candidate, never bring one in.
"""
