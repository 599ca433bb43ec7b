"""Do the eigenvalues of large random symmetric matrices follow Wigner's semicircle?"""

import numpy as np

SIZE, MATRICES = 600, 110

rng = np.random.default_rng(2026)
spectrum = []
for _ in range(MATRICES):
    noise = rng.standard_normal((SIZE, SIZE))
    spectrum.append(np.linalg.eigvalsh((noise + noise.T) / np.sqrt(2 * SIZE)))
eigenvalues = np.concatenate(spectrum)

edges = np.linspace(-2, 2, 17)
observed, _ = np.histogram(eigenvalues, bins=edges, density=True)
middle = (edges[:-1] + edges[1:]) / 2
expected = np.sqrt(4 - middle**2) / (2 * np.pi)

for x, seen, wanted in zip(middle, observed, expected):
    print(f"{x:+.3f} {seen:.3f} {wanted:.3f} {'#' * round(seen * 100)}")
largest = np.array([values[-1] for values in spectrum])
print(f"largest eigenvalue: {largest.mean():.3f} on average, 2 in the limit")

round(float(np.abs(observed - expected).max()), 3)
