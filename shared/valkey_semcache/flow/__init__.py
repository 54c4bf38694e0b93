"""How a look-up, a store, a clear go, step by step.

Rule of this folder: generators that yield what they want done (`operations.py`); no I/O, so that a
test can walk them with canned replies.
"""
