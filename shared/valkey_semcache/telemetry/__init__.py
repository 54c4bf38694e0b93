"""What others are told of a cache's work: events, OpenTelemetry, and the figures of a fleet.

Rule of this folder: look-ups and stores do not know that they are watched. Nothing here decides
anything, nothing fails because nobody listens, and what is off costs nothing.
"""
