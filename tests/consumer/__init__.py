"""Tests of the consumer package."""
