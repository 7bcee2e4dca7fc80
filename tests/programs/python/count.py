"""Counts operations by what they were, and prints the counts as JSON at the end."""

import collections
import json

_counts = collections.Counter()


def count(operation, number=1):
    _counts[operation] += number


def report():
    print(json.dumps(_counts))
