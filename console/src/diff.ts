// Which tokens of an answer are not the base's: those outside a longest common subsequence.

const MOST = 4_000_000;

/** For each of `other`, whether it differs from `base`. Too long for the table: compared place by place. */
export function differs(base: string[], other: string[]): boolean[] {
  const [n, m] = [base.length, other.length];
  if (n * m > MOST) return other.map((each, place) => each !== base[place]);
  const width = m + 1;
  const longest = new Uint16Array((n + 1) * width);
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      longest[i * width + j] = base[i] === other[j]
        ? longest[(i + 1) * width + j + 1]! + 1
        : Math.max(longest[(i + 1) * width + j]!, longest[i * width + j + 1]!);
    }
  }
  const found: boolean[] = [];
  let [i, j] = [0, 0];
  while (j < m) {
    if (i < n && base[i] === other[j]) {
      found.push(false);
      i++;
      j++;
    } else if (i < n && longest[(i + 1) * width + j]! >= longest[i * width + j + 1]!) i++;
    else {
      found.push(true);
      j++;
    }
  }
  return found;
}
