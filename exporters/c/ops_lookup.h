/* et_each of many codes, by a table of what each code becomes; a copy where all stay, as in a Concat of one range. */
static void et_lookup(const uint8_t *in, uint8_t *out, int32_t count, int32_t zero, const et_activation *a,
                     const uint8_t *head, const uint8_t *row, uint8_t *table) {
  int32_t m = et_i16(row), e = row[2], i;
  if (a->kind == ET_CLAMP && m == 0x4000 && e == 14 && head[0] == zero && head[1] == 0 && head[2] == 255) {
    memcpy(out, in, (size_t)count);
    return;
  }
  for (i = 0; i < 256; i++) table[i] = et_code(a, head, et_shift((i - zero) * m, e));
  for (; count > 0; count--) *out++ = table[*in++];
}
