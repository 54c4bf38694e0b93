"""Where vectors are searched.

Rule of this folder: an index finds the nearest entries of one scope and keeps itself current;
it does not know what an answer is, nor when one may be served. Each index is flows without
I/O, and all of them keep one contract (contract.py), shown by one suite of tests.
"""
