"""How does heat spread over a plate with two hot corners? Simulates, and draws the result."""

import io

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

SIZE, STEPS, RATE = 200, 14_000, 0.24

plate = np.zeros((SIZE, SIZE))
plate[:20, :20] = plate[-20:, -20:] = 100.0
averages = []
for step in range(STEPS):
    middle = plate[1:-1, 1:-1]
    neighbours = plate[:-2, 1:-1] + plate[2:, 1:-1] + plate[1:-1, :-2] + plate[1:-1, 2:]
    middle += RATE * (neighbours - 4 * middle)
    plate[:20, :20] = plate[-20:, -20:] = 100.0
    if step % 2_000 == 0:
        averages.append(plate.mean())

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
image = left.imshow(plate, cmap="inferno")
left.set_title(f"after {STEPS:,} steps")
figure.colorbar(image, ax=left, label="temperature")
right.plot(np.arange(len(averages)) * 2_000, averages, marker="o")
right.set(title="average temperature", xlabel="step")
picture = io.BytesIO()
figure.savefig(picture, format="png", dpi=90)

print("average temperature:", ", ".join(f"{value:.2f}" for value in averages))
print(f"warmest point of the middle row: {plate[SIZE // 2].max():.2f}")
print(f"picture drawn: {picture.tell() > 10_000}")

figure
