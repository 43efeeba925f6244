/* The update rules of reference/equations.py, in the same order and with the same numbers of equations. S is a list of
   Dk rows with Dv entries; k has Dk entries, v has Dv. A test compares every function here with NumPy. */
const rules = (() => {
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

  /** S^T q: what the memory answers to q, Dv numbers. */
  const read = (S, q) => S[0].map((_, j) => S.reduce((sum, row, i) => sum + row[j] * q[i], 0));

  /** S + beta k v^T: Hebb's rule adds and never looks. */
  const hebb = (S, k, v, beta = 1) => S.map((row, i) => row.map((x, j) => x + beta * k[i] * v[j]));

  /** S + beta k (v - S^T k)^T: the delta rule reads first and writes what is missing. */
  const delta = (S, k, v, beta) => {
    const old = read(S, k);
    return hebb(S, k, v.map((x, j) => x - old[j]), beta);
  };

  /** Every row times its factor exp(g): one number for all rows (Gated DeltaNet), or one per row (KDA). */
  const decay = (S, factors) => S.map((row, i) => row.map((x) => x * factors[i]));

  /** One token: decay, then read, then write. factors: Dk numbers. */
  const step = (S, { rule, k, v, beta, factors }) => {
    if (rule === "hebb") return hebb(S, k, v, beta);
    if (rule === "delta") return delta(S, k, v, beta);
    return delta(decay(S, factors), k, v, beta);
  };

  /** A[t][s] = beta_t k_t . k_s for s < t: what token t must undo of the tokens before it in its chunk. */
  const triangle = (keys, betas) => keys.map((k, t) => keys.map((other, s) => (s < t ? betas[t] * dot(k, other) : 0)));

  /** Row t of X = (I + A)^-1 from the rows above it: x_t = e_t - sum_{s<t} A[t][s] x_s. */
  const inverseRow = (A, above) => {
    const t = above.length;
    return A.map((_, j) => (j === t ? 1 : 0) - above.reduce((sum, row, s) => sum + A[t][s] * row[j], 0));
  };

  /** A pair of numbers turned by `angle`. */
  const turn = ([x, y], angle) => [x * Math.cos(angle) - y * Math.sin(angle), x * Math.sin(angle) + y * Math.cos(angle)];

  /** The k largest scores among the first `until` tokens, in the text's order; of equal ones the earlier. */
  const topK = (scores, until, k) =>
    scores.slice(0, until)
      .map((score, i) => [score, i])
      .sort(([a, i], [b, j]) => b - a || i - j)
      .slice(0, k)
      .map(([, i]) => i)
      .sort((i, j) => i - j);

  return { dot, read, hebb, delta, decay, step, triangle, inverseRow, turn, topK };
})();
if (typeof module !== "undefined") module.exports = rules;
