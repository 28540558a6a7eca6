"""Tests of Penchant, one folder per package, and what crosses them."""
