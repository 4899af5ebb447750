/* m and e of a mean of n: rows are in the order of `counts`, which holds n. */
static const uint8_t *et_mean(const uint8_t *rows, const int32_t *counts, int32_t n) {
  for (; *counts != n; counts++) rows += 3;
  return rows;
}
