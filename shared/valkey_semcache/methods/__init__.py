"""The methods of `SemanticCache`, by what they are about.

Rule of this folder: a method hands a flow to `drive.py`, in both ways; what happens to one entry is
decided in the flow.
"""
