/* PRelu: a row is m, e, and both again for acc < 0. */
static void et_prelu_SUFFIX(const ELEMENT *in, uint8_t *out, int32_t channels, int32_t plane, const uint8_t *k) {
  const uint8_t *row = k + 5;
  int32_t zero = k[0];
  for (; channels > 0; channels--, row += 6) {
    int32_t m = et_i16(row), e = row[2], m_below = et_i16(row + 3), e_below = row[5], i;
    for (i = 0; i < plane; i++) {
      int32_t v = *in++ - zero;
      v = v < 0 ? et_shift(v * m_below, e_below) : et_shift(v * m, e);
      *out++ = (uint8_t)et_clamp(v + k[1], 0, 255);
    }
  }
}
