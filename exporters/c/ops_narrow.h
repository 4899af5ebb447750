/* et_scale where the head says that |acc| < 2^23, if its shift lets it have 32 bits. */
static int32_t et_narrow(int32_t acc, const uint8_t *head, const uint8_t *row) {
  int32_t m = et_i16(row);
  if (!(head[3] & 1) || row[2] < 9) return et_scale(acc, row);
  return et_shift((acc >> 8) * m + (((acc & 255) * m) >> 8), row[2] - 8);
}
