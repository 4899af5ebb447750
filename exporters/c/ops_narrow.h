/* et_scale in 32 bits, where e > 16. */
static int32_t et_narrow(int32_t acc, int32_t m, int32_t e) {
  return et_shift((acc >> 16) * m + (((acc & 0xFFFF) * m) >> 16), e - 16);
}
