"""What is the largest gap between consecutive primes below one hundred million, and which gap is the most common?"""

from collections import Counter
from math import isqrt, log

LIMIT = 100_000_000

sieve = bytearray([1]) * (LIMIT + 1)
sieve[:2] = b"\0\0"
for n in range(2, isqrt(LIMIT) + 1):
    if sieve[n]:
        sieve[n * n :: n] = bytes(len(range(n * n, LIMIT + 1, n)))

gaps: Counter[int] = Counter()
largest, after = 0, 2
previous = 2
position = sieve.find(1, 3)
while position != -1:
    gap = position - previous
    gaps[gap] += 1
    if gap > largest:
        largest, after = gap, previous
    previous = position
    position = sieve.find(1, position + 1)

primes = sum(gaps.values()) + 1
print(f"primes below {LIMIT:,}: {primes:,} (n / ln n gives {LIMIT / log(LIMIT):,.0f})")
print(f"largest gap: {largest}, after {after:,}")
print("most common:", ", ".join(f"{gap} ({count:,} times)" for gap, count in gaps.most_common(3)))
print(f"twin primes: {gaps[2]:,} pairs")

(largest, after)
