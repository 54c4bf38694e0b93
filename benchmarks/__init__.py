"""Measurements. Claims about speed and precision come from here.

Rule of this folder: figures are compared within one run, each report says on which server and
which releases it was made, and what a run writes is data first (JSON), a page of text second. The
library is used through its public interface; tests measure no times.
"""
