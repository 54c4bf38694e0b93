"""Things that break, and a fleet of workers that must not notice more than misses.

Rule of this folder: `faults.py` breaks and mends, `fleet.py` asks and stores and knows which
answer is right, the tests bring them together. What each test shows in seconds, `make soak` shows
for as long as it is told.
"""
