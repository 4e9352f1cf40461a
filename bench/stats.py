"""Medians and their intervals."""
import random
import statistics

DRAWS = 10000
LEVEL = 0.90


def median(values):
    return statistics.median(values)


def interval(values, level=LEVEL):
    """(low, high) of the median by the bootstrap, with a seed of its own: equal input, equal output."""
    if len(values) < 2:
        return (values[0], values[0])
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(DRAWS))
    cut = int(DRAWS * (1 - level) / 2)
    return (medians[cut], medians[-1 - cut])


def summary(values):
    """{median, low, high, values} of a list; None where there are none."""
    values = [v for v in values if v is not None]
    if not values:
        return None
    low, high = interval(values)
    return {'median': median(values), 'low': low, 'high': high, 'values': values}


def ratio(a, b):
    """summary() of a[i] / b[i] of the rounds that have both."""
    return summary([x / y for x, y in zip(a, b) if x is not None and y])
