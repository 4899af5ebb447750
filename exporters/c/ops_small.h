/* (acc * m + 2^(e - 1)) >> e where |acc * m| < 2^31: the same number as et_scale makes, in 32 bits. */
static int32_t et_small(int32_t acc, int32_t m, int32_t e) {
  int32_t t = (acc * m) >> (e > 32 ? 31 : e - 1);
  return (t >> 1) + (t & 1);
}
