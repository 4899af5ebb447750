/* The constants of a filter: as they are, or from codes of its scale and bias on the grids of its layer. */
static const uint8_t *et_filters_end(const uint8_t *k, uint32_t filters) { return k + (k[0] ? 9 + 2 * filters : 1 + 7 * filters); }

/* int32 bias, int16 m, uint8 e of filter f, as bytes. */
static void et_filter(const uint8_t *k, uint32_t filters, uint32_t f, uint8_t row[7]) {
  if (!k[0]) {
    memcpy(row, k + 1 + 7 * f, 7);
    return;
  }
  const int32_t scale = (int8_t)k[9 + f], bias = (int8_t)k[9 + filters + f];
  const uint32_t a = (uint32_t)(scale < 0 ? -scale : scale), b = (uint32_t)(bias < 0 ? -bias : bias);
  uint32_t m = ((uint32_t)et_i32(k + 1) & 0xFFFFFFu) * a, e = k[4], shift;
  for (shift = 1; m >> shift >= 0x8000u; shift++) {}
  m = (m + (1u << (shift - 1))) >> shift;
  if (m == 0x8000u) { m >>= 1; shift++; }
  uint32_t v = (((uint32_t)et_i32(k + 5) & 0xFFFFFFu) * b / a + (1u << (k[8] - 1))) >> k[8];
  if (scale < 0) m = 0u - m;
  if ((scale < 0) != (bias < 0)) v = 0u - v;
  for (int i = 0; i < 4; i++) row[i] = (uint8_t)(v >> 8 * i);
  row[4] = (uint8_t)m; row[5] = (uint8_t)(m >> 8); row[6] = (uint8_t)(e - shift);
}
