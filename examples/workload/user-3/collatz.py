"""Which number below four million takes the longest to reach 1 by the Collatz rule?"""

LIMIT = 4_000_000

steps = [0] * LIMIT
longest, most = 1, 0
record = []
for start in range(2, LIMIT):
    n, count = start, 0
    while n >= start:  # everything below `start` is known already
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        count += 1
    steps[start] = count + steps[n]
    if steps[start] > most:
        longest, most = start, steps[start]
        record.append((longest, most))

print("records:", ", ".join(f"{start:,} ({count})" for start, count in record[-5:]))
print(f"average number of steps: {sum(steps) / (LIMIT - 1):.2f}")
odd = sum(1 for start in range(3, LIMIT, 2) if steps[start] > 300)
print(f"odd numbers that take more than 300 steps: {odd:,}")

{"number": longest, "steps": most}
