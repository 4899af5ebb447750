/* Code of the mean of v over rows top to bottom - 1, columns left to right - 1. 256 codes times m fit 31 bits. */
static uint8_t et_mean_of_SUFFIX(const ELEMENT *in, int32_t width, int32_t top, int32_t bottom, int32_t left,
                                 int32_t right, const int32_t *counts, const uint8_t *k) {
  int32_t n = (bottom - top) * (right - left), acc = -n * k[0], x;
  const uint8_t *row = et_mean(k + 5, counts, n);
  for (in += top * width; top < bottom; top++, in += width)
    for (x = left; x < right; x++) acc += in[x];
  acc = sizeof(ELEMENT) == 1 && n <= 256 ? et_shift(acc * et_i16(row), row[2]) : et_scale(acc, row);
  return (uint8_t)et_clamp(acc + k[1], 0, 255);
}
