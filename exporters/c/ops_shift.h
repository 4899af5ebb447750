/* (x + 2^(e - 1)) >> e of any int32. */
static int32_t et_shift(int32_t x, int32_t e) {
  int32_t t = x >> (e > 32 ? 31 : e - 1);
  return (t >> 1) + (t & 1);
}
